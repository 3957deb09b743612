// Count the symbols of segments: one block takes one piece of one segment.
//
// Spec: docs/format-entropy.md#tables (the counts are the encoder's business only).
// Grid: one block for each piece; piece i is symbols[begins[i], ends[i]) of segment owners[i]. Any block size.
// Shared memory: 1 KiB. Preconditions: a piece holds fewer than 2^32 symbols; counts are zero at the start.
// Bytes moved: 1 read for each symbol; 2 KiB of atomics for each piece, so pieces of 64 KiB make them 3 %.
// Bound: shared atomics on equal symbols serialise within a warp; a skewed segment runs at about one symbol a cycle
// and SM, 200 GB/s on 132 of them: still beside the memory's bound.
#include "common.cuh"

extern "C" __global__ void count_symbols(const u8* __restrict__ symbols, const i64* __restrict__ begins,
                                         const i64* __restrict__ ends, const u32* __restrict__ owners,
                                         u64* __restrict__ counts) {
    __shared__ u32 bins[256];
    for (u32 bin = threadIdx.x; bin < 256u; bin += blockDim.x) bins[bin] = 0u;
    __syncthreads();
    const i64 end = ends[blockIdx.x];
    for (i64 i = begins[blockIdx.x] + threadIdx.x; i < end; i += blockDim.x) atomicAdd(&bins[symbols[i]], 1u);
    __syncthreads();
    u64* const row = counts + (u64)owners[blockIdx.x] * 256u;
    for (u32 bin = threadIdx.x; bin < 256u; bin += blockDim.x)
        if (bins[bin]) atomicAdd(&row[bin], (u64)bins[bin]);
}
