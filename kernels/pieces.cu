// Copy or fill many stretches of bytes in one launch: what a copy for each would cost the host most.
//
// Grid: one block for each piece, any block size; shared memory: none. pieces has three numbers for each.
// Preconditions: pieces lie within their arrays, and no two write the same byte.
// Bytes moved: 1 read and 1 written for each byte. Bound: memory; one byte a thread and turn, coalesced, so that pieces of
// some 64 KiB fill a card.
#include "common.cuh"

// A piece is (begin in source, begin in target, size).
extern "C" __global__ void copy_pieces(const u8* __restrict__ source, const i64* __restrict__ pieces,
                                       u8* __restrict__ target) {
    const i64* const own = pieces + 3 * (u64)blockIdx.x;
    const u8* const from = source + own[0];
    u8* const to = target + own[1];
    for (i64 i = threadIdx.x; i < own[2]; i += blockDim.x) to[i] = from[i];
}

// A piece is (begin, size, value).
extern "C" __global__ void fill_pieces(u8* __restrict__ target, const i64* __restrict__ pieces) {
    const i64* const own = pieces + 3 * (u64)blockIdx.x;
    for (i64 i = threadIdx.x; i < own[1]; i += blockDim.x) target[own[0] + i] = (u8)own[2];
}
