// CUDA C++ as far as gpushrink's kernels use it, for a host compiler. Included before the kernel text.
//
// What is missing here is missing on purpose: __activemask, cooperative groups, floating point,
// textures, printf. A kernel that needs them cannot be proven without a device.
#pragma once

#include <stdint.h>
#include <string.h>

#include "runtime.h"

#define GPUSHRINK_HOST_SHIM 1

#define __global__
#define __device__ static
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __shared__ static __attribute__((section("gs_shared")))
// `extern __shared__` has no host twin; kernels say DYNAMIC_SHARED, which common.cuh defines for a device.
#define DYNAMIC_SHARED(type, name) type* const name = (type*)gs_dynamic_shared()

#define threadIdx (gs_place.thread)
#define blockIdx (gs_place.block)
#define blockDim (gs_place.block_size)
#define gridDim (gs_place.grid_size)
#define warpSize 32

// ---- vectors: aligned as on a device, so that UBSan sees a misaligned wide access ----
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(4) ushort2 { uint16_t x, y; };
struct alignas(8) ushort4 { uint16_t x, y, z, w; };
struct alignas(8) int2 { int32_t x, y; };
struct alignas(16) int4 { int32_t x, y, z, w; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(16) ulonglong2 { unsigned long long x, y; };
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
static inline ushort2 make_ushort2(uint16_t x, uint16_t y) { return {x, y}; }
static inline ushort4 make_ushort4(uint16_t x, uint16_t y, uint16_t z, uint16_t w) { return {x, y, z, w}; }
static inline int2 make_int2(int32_t x, int32_t y) { return {x, y}; }
static inline int4 make_int4(int32_t x, int32_t y, int32_t z, int32_t w) { return {x, y, z, w}; }
static inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
    return {x, y, z, w};
}

// ---- integer intrinsics ----
static inline int __popc(unsigned int x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned int)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned int __brev(unsigned int x) {
    x = ((x >> 1) & 0x55555555u) | ((x & 0x55555555u) << 1);
    x = ((x >> 2) & 0x33333333u) | ((x & 0x33333333u) << 2);
    x = ((x >> 4) & 0x0f0f0f0fu) | ((x & 0x0f0f0f0fu) << 4);
    return __builtin_bswap32(x);
}
static inline unsigned int __funnelshift_l(unsigned int low, unsigned int high, unsigned int shift) {
    return (unsigned int)(((((unsigned long long)high << 32) | low) << (shift & 31u)) >> 32);
}
static inline unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int shift) {
    return (unsigned int)((((unsigned long long)high << 32) | low) >> (shift & 31u));
}
static inline unsigned int __umulhi(unsigned int a, unsigned int b) {
    return (unsigned int)(((unsigned long long)a * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline unsigned int __byte_perm(unsigned int a, unsigned int b, unsigned int selector) {
    const unsigned long long bytes = ((unsigned long long)b << 32) | a;
    unsigned int out = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned int pick = (selector >> (4 * i)) & 15u;
        unsigned int byte = (unsigned int)(bytes >> (8 * (pick & 7u))) & 255u;
        if (pick & 8u) byte = (byte & 128u) ? 255u : 0u;
        out |= byte << (8 * i);
    }
    return out;
}
template <class T> static inline T __ldg(const T* address) { return *address; }

#define GS_MIN_MAX(type)                                                \
    static inline type min(type a, type b) { return a < b ? a : b; }    \
    static inline type max(type a, type b) { return a < b ? b : a; }
GS_MIN_MAX(int)
GS_MIN_MAX(unsigned int)
GS_MIN_MAX(long long)
GS_MIN_MAX(unsigned long long)
static inline int abs(int x) noexcept { return x < 0 ? -x : x; }
static inline long long llabs(long long x) noexcept { return x < 0 ? -x : x; }

// ---- barriers and warp operations; the line tells call sites apart ----
#define __syncthreads() ((void)gs_barrier(GS_BARRIER, 0u, __LINE__))
#define __syncthreads_count(predicate) ((int)gs_barrier(GS_BARRIER_COUNT, (predicate) ? 1u : 0u, __LINE__))
#define __syncthreads_and(predicate) ((int)gs_barrier(GS_BARRIER_AND, (predicate) ? 1u : 0u, __LINE__))
#define __syncthreads_or(predicate) ((int)gs_barrier(GS_BARRIER_OR, (predicate) ? 1u : 0u, __LINE__))

template <class T> static inline uint64_t gs_bits(T value) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "warp operations take 32 or 64 bits");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T> static inline T gs_exchange(uint32_t operation, uint32_t mask, T value, uint32_t extra,
                                               uint32_t width, uint32_t line) {
    const uint64_t bits = gs_collective(operation, mask, gs_bits(value), extra, width, line);
    T out;
    memcpy(&out, &bits, sizeof(T));
    return out;
}
struct GsShuffle {
    uint32_t operation, line;
    template <class T> T operator()(uint32_t mask, T value, unsigned int extra, unsigned int width = 32) const {
        return gs_exchange(operation, mask, value, extra, width, line);
    }
};
#define __shfl_sync (GsShuffle{GS_SHFL, __LINE__})
#define __shfl_up_sync (GsShuffle{GS_SHFL_UP, __LINE__})
#define __shfl_down_sync (GsShuffle{GS_SHFL_DOWN, __LINE__})
#define __shfl_xor_sync (GsShuffle{GS_SHFL_XOR, __LINE__})

struct GsMatch {
    uint32_t line;
    template <class T> unsigned int operator()(uint32_t mask, T value) const {
        return (unsigned int)gs_collective(GS_MATCH_ANY, mask, gs_bits(value), 0, 32, line);
    }
};
#define __match_any_sync (GsMatch{__LINE__})
struct GsSyncwarp {
    uint32_t line;
    void operator()(uint32_t mask = 0xffffffffu) const { gs_collective(GS_SYNCWARP, mask, 0, 0, 32, line); }
};
#define __syncwarp (GsSyncwarp{__LINE__})
#define __ballot_sync(mask, predicate) \
    ((unsigned int)gs_collective(GS_BALLOT, (mask), (predicate) ? 1u : 0u, 0, 32, __LINE__))
#define __any_sync(mask, predicate) ((int)gs_collective(GS_ANY, (mask), (predicate) ? 1u : 0u, 0, 32, __LINE__))
#define __all_sync(mask, predicate) ((int)gs_collective(GS_ALL, (mask), (predicate) ? 1u : 0u, 0, 32, __LINE__))

// ---- fences and atomics: relaxed, as on a device; a fence is what orders ----
static inline void __threadfence() { gs_fence(); }
static inline void __threadfence_block() { gs_fence(); }

template <class T> struct GsPlain { typedef T type; };  // keeps the operand from taking part in deduction
#define GS_ATOMIC(name, builtin)                                                              \
    template <class T> static inline T name(T* address, typename GsPlain<T>::type operand) {  \
        gs_atomic_point();                                                                    \
        return builtin(address, operand, __ATOMIC_RELAXED);                                   \
    }
GS_ATOMIC(atomicAdd, __atomic_fetch_add)
GS_ATOMIC(atomicSub, __atomic_fetch_sub)
GS_ATOMIC(atomicAnd, __atomic_fetch_and)
GS_ATOMIC(atomicOr, __atomic_fetch_or)
GS_ATOMIC(atomicXor, __atomic_fetch_xor)
GS_ATOMIC(atomicExch, __atomic_exchange_n)
template <class T> static inline T atomicCAS(T* address, typename GsPlain<T>::type compare,
                                             typename GsPlain<T>::type value) {
    gs_atomic_point();
    T expected = compare;
    __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T> static inline T atomicMax(T* address, typename GsPlain<T>::type operand) {
    gs_atomic_point();
    T seen = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (seen < operand &&
           !__atomic_compare_exchange_n(address, &seen, operand, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return seen;
}
template <class T> static inline T atomicMin(T* address, typename GsPlain<T>::type operand) {
    gs_atomic_point();
    T seen = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (operand < seen &&
           !__atomic_compare_exchange_n(address, &seen, operand, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return seen;
}

// ---- registration: the parameter types of a kernel, read off its own signature ----
template <class T> struct GsKind { enum { value = GS_SCALAR }; };
template <class T> struct GsKind<T*> { enum { value = GS_POINTER }; };
template <size_t... I> struct GsList {};
template <size_t N, size_t... I> struct GsCount : GsCount<N - 1, N - 1, I...> {};
template <size_t... I> struct GsCount<0, I...> { typedef GsList<I...> type; };

template <class Function, Function function> struct GsEntry;
template <class... A, void (*function)(A...)> struct GsEntry<void (*)(A...), function> {
    static const uint32_t* sizes() {
        static const uint32_t values[sizeof...(A) + 1] = {(uint32_t)sizeof(A)..., 0u};
        return values;
    }
    static const uint32_t* kinds() {
        static const uint32_t values[sizeof...(A) + 1] = {(uint32_t)GsKind<A>::value..., 0u};
        return values;
    }
    template <size_t... I> static void spread(void** arguments, GsList<I...>) {
        (void)arguments;
        function(*(A*)arguments[I]...);
    }
    static void call(void** arguments) { spread(arguments, typename GsCount<sizeof...(A)>::type()); }
    static GsKernel describe(const char* name) {
        return {name, call, (uint32_t)sizeof...(A), sizes(), kinds()};
    }
};
#define GS_KERNEL(name) GsEntry<decltype(&name), &name>::describe(#name)
