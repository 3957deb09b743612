// Residuals as one-byte tokens and raw bits, and back.
//
// Spec: docs/format-volume.md, "Tokens"; equal to codec/volume/tokens.py. Values have at most 16 bits here.
// Grid: one thread for each value, TOKEN_WARPS warps to a block; a block is a tile. tile_bits[i] is how many raw bits
// tile i has, tile_begins[i] where they begin: their prefix sum, taken between the two kernels of each way.
// Shared memory: 4 bytes a warp. Precondition: the raw bits' buffer is zero and whole words (split), has 8 bytes more
// than its bits ask for (join).
// Bytes moved: split 2 + 1, then 2 more where a tile has raw bits; join 1, then 1 + 2. Bound: memory.
#include "common.cuh"

#define DIRECT 64u

__device__ __forceinline__ u32 raw_bits_of(u32 token) {
    return token < DIRECT ? 0u : (token - DIRECT) / 8u + 3u;
}

// The token of a value of at most 16 bits.
__device__ __forceinline__ u32 token_of(u32 value) {
    if (value < DIRECT) return value;
    const u32 top = 31u - (u32)__clz((i32)value);
    return DIRECT + 8u * (top - 6u) + ((value >> (top - 3u)) & 7u);
}

// The sum over the threads before this one in the block; `total` gets the block's. Two barriers.
__device__ __forceinline__ u32 sum_before(u32 bits, u32& total) {
    __shared__ u32 of_warp[TOKEN_WARPS];
    const u32 lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    u32 sum = bits;
    for (u32 distance = 1u; distance < WARP_LANES; distance *= 2u) {
        const u32 other = __shfl_up_sync(FULL_MASK, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == 31u) of_warp[warp] = sum;
    __syncthreads();
    u32 before = sum - bits;
    total = 0u;
    for (u32 w = 0; w < TOKEN_WARPS; ++w) {
        if (w < warp) before += of_warp[w];
        total += of_warp[w];
    }
    __syncthreads();
    return before;
}

extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    split_tokens(const u16* values, u64 count, u8* tokens, u32* tile_bits) {
    const u64 i = global_thread();
    u32 token = 0u, total;
    if (i < count) {
        token = token_of(values[i]);
        tokens[i] = (u8)token;
    }
    sum_before(raw_bits_of(token), total);
    if (threadIdx.x == 0u) tile_bits[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    write_raw_bits(const u16* values, u64 count, const u32* tile_bits, const u64* tile_begins, u32* raw) {
    if (!tile_bits[blockIdx.x]) return;  // the whole block
    const u64 i = global_thread();
    const u32 value = i < count ? values[i] : 0u;
    const u32 bits = raw_bits_of(token_of(value));
    u32 total;
    const u64 at = tile_begins[blockIdx.x] + sum_before(bits, total);
    if (!bits) return;
    const u64 shifted = (u64)(value & ((1u << bits) - 1u)) << (at & 31u);
    // Neighbours share words, and OR does not ask who comes first.
    atomicOr(&raw[at >> 5], (u32)shifted);
    if (shifted >> 32) atomicOr(&raw[(at >> 5) + 1u], (u32)(shifted >> 32));
}

extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    count_raw_bits(const u8* tokens, u64 count, u32* tile_bits) {
    const u64 i = global_thread();
    u32 total;
    sum_before(raw_bits_of(i < count ? tokens[i] : 0u), total);
    if (threadIdx.x == 0u) tile_bits[blockIdx.x] = total;
}

// Tokens of more than 16 bits set *fault; what they give is worthless.
extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    join_tokens(const u8* tokens, u64 count, const u64* tile_begins, const u8* raw, u16* values, u32* fault) {
    const u64 i = global_thread();
    const u32 token = i < count ? tokens[i] : 0u;
    const u32 bits = raw_bits_of(token);
    u32 total;
    const u64 at = tile_begins[blockIdx.x] + sum_before(bits, total);
    if (i >= count) return;
    if (bits > 12u) {
        *fault = 1u;
        values[i] = 0;
        return;
    }
    u32 value = token;
    if (bits) {
        const u8* const from = raw + (at >> 3);
        const u32 window = (u32)from[0] | (u32)from[1] << 8 | (u32)from[2] << 16;
        value = ((8u + (token - DIRECT) % 8u) << bits) + ((window >> (at & 7u)) & ((1u << bits) - 1u));
    }
    values[i] = (u16)value;
}
