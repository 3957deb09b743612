// Residuals as one-byte tokens and raw bits, and back, for a batch of slabs.
//
// Spec: docs/format-volume.md, "Tokens"; equal to codec/volume/tokens.py. Values have at most 16 bits here.
// Slab s has values[begins[s], begins[s + 1]), and raw bits of its own. Grid: one thread for each value of the largest
// slab, TOKEN_WARPS warps to a block, by slabs; a block is a tile. tile_bits[s][i] is how many raw bits tile i of slab s has,
// tile_begins[s][i] where they begin: their prefix sum, taken by sum_tiles between the two kernels of each way.
// Shared memory: 4 bytes a warp. Precondition: the raw bits' buffer is zero, each slab's begins at a whole word (split),
// and has 8 bytes more than its bits ask for (join).
// Bytes moved: split 2 + 1, then 2 more where a tile has raw bits; join 1, then 1 + 2; sum_tiles 12 for each tile.
// Bound: memory; sum_tiles by latency, one block for each slab, 256 tiles a turn.
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
    split_tokens(const u16* values, const u64* begins, u8* tokens, u32* tile_bits) {
    const u64 i = begins[blockIdx.y] + global_thread();
    u32 token = 0u, total;
    if (i < begins[blockIdx.y + 1u]) {
        token = token_of(values[i]);
        tokens[i] = (u8)token;
    }
    sum_before(raw_bits_of(token), total);
    if (threadIdx.x == 0u) tile_bits[(u64)blockIdx.y * gridDim.x + blockIdx.x] = total;
}

// Sum a slab's tiles: one block for each slab. totals[s] is how many raw bits slab s has.
extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    sum_tiles(const u32* tile_bits, u32 tiles, u64* tile_begins, u64* totals) {
    const u64 row = (u64)blockIdx.x * tiles;
    u64 before = 0u;
    for (u32 begin = 0u; begin < tiles; begin += blockDim.x) {
        const u32 tile = begin + threadIdx.x;
        u32 total;
        const u32 here = sum_before(tile < tiles ? tile_bits[row + tile] : 0u, total);
        if (tile < tiles) tile_begins[row + tile] = before + here;
        before += total;
    }
    if (threadIdx.x == 0u) totals[blockIdx.x] = before;
}

// raw_begins[s] is the first word of slab s.
extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    write_raw_bits(const u16* values, const u64* begins, const u32* tile_bits, const u64* tile_begins,
                   const u64* raw_begins, u32* raw) {
    const u64 tile = (u64)blockIdx.y * gridDim.x + blockIdx.x;
    if (!tile_bits[tile]) return;  // the whole block
    const u64 i = begins[blockIdx.y] + global_thread();
    const u32 value = i < begins[blockIdx.y + 1u] ? values[i] : 0u;
    const u32 bits = raw_bits_of(token_of(value));
    u32 total;
    const u64 at = tile_begins[tile] + sum_before(bits, total);
    if (!bits) return;
    u32* const words = raw + raw_begins[blockIdx.y] + (at >> 5);
    const u64 shifted = (u64)(value & ((1u << bits) - 1u)) << (at & 31u);
    // Neighbours share words, and OR does not ask who comes first.
    atomicOr(words, (u32)shifted);
    if (shifted >> 32) atomicOr(words + 1, (u32)(shifted >> 32));
}

extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    count_raw_bits(const u8* tokens, const u64* begins, u32* tile_bits) {
    const u64 i = begins[blockIdx.y] + global_thread();
    u32 total;
    sum_before(raw_bits_of(i < begins[blockIdx.y + 1u] ? tokens[i] : 0u), total);
    if (threadIdx.x == 0u) tile_bits[(u64)blockIdx.y * gridDim.x + blockIdx.x] = total;
}

// raw_begins[s] is the first byte of slab s. Tokens of more than 16 bits set faults[s]; what they give is worthless.
extern "C" __global__ void __launch_bounds__(TOKEN_WARPS * 32)
    join_tokens(const u8* tokens, const u64* begins, const u64* tile_begins, const u64* raw_begins, const u8* raw,
                u16* values, u32* faults) {
    const u64 i = begins[blockIdx.y] + global_thread();
    const bool inside = i < begins[blockIdx.y + 1u];
    const u32 token = inside ? tokens[i] : 0u;
    const u32 bits = raw_bits_of(token);
    u32 total;
    const u64 at = tile_begins[(u64)blockIdx.y * gridDim.x + blockIdx.x] + sum_before(bits, total);
    if (!inside) return;
    if (bits > 12u) {
        faults[blockIdx.y] = 1u;
        values[i] = 0;
        return;
    }
    u32 value = token;
    if (bits) {
        const u8* const from = raw + raw_begins[blockIdx.y] + (at >> 3);
        const u32 window = (u32)from[0] | (u32)from[1] << 8 | (u32)from[2] << 16;
        value = ((8u + (token - DIRECT) % 8u) << bits) + ((window >> (at & 7u)) & ((1u << bits) - 1u));
    }
    values[i] = (u16)value;
}
