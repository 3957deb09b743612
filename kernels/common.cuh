// What every kernel of gpushrink shares: integer types, the launch geometry, the residual map.
//
// The same text is compiled by NVRTC for a device and by a host compiler for tests, so it holds to
// a small language: integers only, 64-bit grid indices, explicit full masks, no inline PTX, no
// standard headers. A number that changes bytes is never written here: it comes from Python as -D.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;

#define WARP_LANES 32u
#define FULL_MASK 0xffffffffu

// The index of this thread in a one-dimensional grid. 64 bits: a volume may hold more than 2^32 samples.
__device__ __forceinline__ u64 global_thread() {
    return (u64)blockIdx.x * blockDim.x + threadIdx.x;
}

// Fold a signed residual onto 0, 1, 2, ...: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4.
// The shift of the sign is arithmetic, as CUDA C++ and every host compiler in use define it.
__device__ __forceinline__ u32 zigzag_encode(i32 residual) {
    return ((u32)residual << 1) ^ (u32)(residual >> 31);
}

__device__ __forceinline__ i32 zigzag_decode(u32 folded) {
    return (i32)(folded >> 1) ^ -(i32)(folded & 1u);
}

// Dynamic shared memory as an array. The host shim has its own definition.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
