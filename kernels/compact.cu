// Join chunks that lie at a fixed stride: what a batched compressor leaves behind, without its gaps.
//
// Grid: one block for each chunk, any block size; shared memory: none.
// Chunk i is source[i * stride, i * stride + size), with size = ends[i] - ends[i - 1]; it goes to target[ends[i - 1]].
// Preconditions: ends rises; stride is at least every size.
// Bytes moved: 1 read and 1 written for each byte kept. Bound: memory; one byte a thread and turn, coalesced.
#include "common.cuh"

extern "C" __global__ void compact_chunks(const u8* __restrict__ source, u64 stride, const i64* __restrict__ ends,
                                          u8* __restrict__ target) {
    const u64 chunk = blockIdx.x;
    const i64 begin = chunk ? ends[chunk - 1] : 0;
    const i64 size = ends[chunk] - begin;
    const u8* const from = source + chunk * stride;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x) target[begin + i] = from[i];
}
