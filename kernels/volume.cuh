// The volume codec's arithmetic for one sample: class, prediction of each stage, context.
//
// Spec: docs/format-volume.md, "Classes", "Prediction", "Contexts"; equal to codec/volume/reference.py. The lists of
// neighbours come from Python as macros (devices/volume_program.py): PLAIN_s, ECHOES_s, ENERGIES and STEPS, each a row
// of TAP(...), ECHO(...) or STEP(...), so that every offset's shape is known when compiling. All sums are 32-bit
// with wrap-around, hence u32. REFS says whether the plane has reference planes; without, their taps fall away.
#pragma once
#include "common.cuh"

// Where the numbers of the model lie in one array of i32. KIND k: 0 without references, 1 with.
#define MODEL_KIND(k) ((k) * 10)
#define KIND_SPATIAL 0
#define KIND_SPATIAL_COUNT 1
#define KIND_TEMPORAL 2
#define KIND_TEMPORAL_COUNT 3
#define KIND_WEIGHTS 4
#define KIND_STAGES 5
#define MODEL_LEVELS 20
#define MODEL_LEVELS_COUNT 21
#define MODEL_COARSE 22
#define MODEL_SPAN 23

// One sample's surroundings: positions are counted in places of the padded planes, in either layout.
struct Around {
    const u16* samples;    // of the slab
    const i16* residuals;  // of all stages, one after another
    const i32* model;
    i64 at, first, second, stage_size;
    i32 column, row;  // at most 2^28 and a few: a plane has no more samples
};

__device__ __forceinline__ i64 place_of(const Around& a, int role, int row, int column) {
    const i64 plane = role == 0 ? 0 : role == 1 ? a.first : a.second;
    return a.at + plane + row * a.row + column * a.column;
}

__device__ __forceinline__ i32 sample_of(const Around& a, int role, int row, int column) {
    return (i32)a.samples[place_of(a, role, row, column)];
}

__device__ __forceinline__ i32 echo_of(const Around& a, int stage, int role, int row, int column) {
    return (i32)a.residuals[stage * a.stage_size + place_of(a, role, row, column)];
}

// How many of the thresholds a value reaches. They rise, and there are at most 63.
__device__ __forceinline__ u32 count_reached(const i32* thresholds, i32 count, i32 value) {
    u32 reached = 0u;
    for (i32 i = 0; i < count; ++i) reached += value >= thresholds[i];
    return reached;
}

// How much changes around a sample, within its plane and towards its references, and whether nothing does.
struct Activity {
    i32 spatial, temporal;
    u32 direction;
    bool flat;
};

template <bool REFS>
__device__ __forceinline__ Activity measure_activity(const Around& a) {
    const i32 w = sample_of(a, 0, 0, -1), ww = sample_of(a, 0, 0, -2), n = sample_of(a, 0, -1, 0);
    const i32 nn = sample_of(a, 0, -2, 0), nw = sample_of(a, 0, -1, -1), ne = sample_of(a, 0, -1, 1);
    const i32 across = abs(w - nw) + abs(n - nn), along = abs(n - nw) + abs(n - ne);
    Activity found;
    found.spatial = across + along + abs(w - ww);
    found.temporal = 0;
    if (REFS) {
        const i32 p = sample_of(a, 1, 0, 0), pw = sample_of(a, 1, 0, -1), pn = sample_of(a, 1, -1, 0);
        found.spatial += abs(p - pw) + abs(p - sample_of(a, 1, 0, 1)) + abs(p - pn) + abs(p - sample_of(a, 1, 1, 0));
        found.temporal = abs(w - pw) + abs(n - pn) + abs(p - sample_of(a, 2, 0, 0));
        found.temporal += abs(nw - sample_of(a, 1, -1, -1)) + abs(ne - sample_of(a, 1, -1, 1));
    }
    found.direction = (u32)(2 * across >= along) + (u32)(across >= along) + (u32)(across >= 2 * along);
    found.flat = w == n && w == nw && w == ne && w == ww && w == nn;
    return found;
}

template <bool REFS>
__device__ __forceinline__ u32 classify(const Around& a, bool& flat) {
    const Activity activity = measure_activity<REFS>(a);
    const i32* const kind = a.model + MODEL_KIND(REFS);
    u32 found = count_reached(a.model + kind[KIND_SPATIAL], kind[KIND_SPATIAL_COUNT], activity.spatial);
    found = found * (u32)(kind[KIND_TEMPORAL_COUNT] + 1) +
            count_reached(a.model + kind[KIND_TEMPORAL], kind[KIND_TEMPORAL_COUNT], activity.temporal);
#if DIRECTIONS == 4
    found = 4u * found + activity.direction;
#endif
    flat = activity.flat;
    return found;
}

// How many coefficients a stage has: the taps that remain for this kind of plane.
#define TAP(role, row, column) +(REFS || (role) == 0)
#define ECHO(stage, role, row, column) +(REFS || (role) == 0)
template <bool REFS, int STAGE>
__device__ __forceinline__ u32 stage_width() {
    if (STAGE == 0) return (u32)(0 PLAIN_0 ECHOES_0);
    if (STAGE == 1) return (u32)(0 PLAIN_1 ECHOES_1);
    return (u32)(0 PLAIN_2 ECHOES_2);
}
#undef TAP
#undef ECHO

// One stage's coefficients: those of class c begin at first[c * stride]. Stage 0 of several has one class.
struct Coefficients {
    const i32* first;
    u32 stride;
};

template <bool REFS, int STAGE>
__device__ __forceinline__ Coefficients find_coefficients(const i32* model) {
    Coefficients found;
    found.first = model + model[MODEL_KIND(REFS) + KIND_STAGES + STAGE];
    found.stride = STAGE > 0 || STAGES == 1 ? stage_width<REFS, STAGE>() : 0u;
    return found;
}

// Copy a stage's coefficients into shared memory if `room` numbers are enough: there, lanes of different classes wait less
// for each other than in lines of a cache, as rows of odd length begin in different banks. All threads of a block call; a
// barrier has to follow.
template <bool REFS, int STAGE>
__device__ __forceinline__ Coefficients share_coefficients(const i32* model, i32* shared, u32 room) {
    Coefficients found = find_coefficients<REFS, STAGE>(model);
    const i32* const kind = model + MODEL_KIND(REFS);
    const u32 width = max(stage_width<REFS, STAGE>(), 1u), stride = width | 1u;
    const u32 classes = found.stride ? (u32)((kind[KIND_SPATIAL_COUNT] + 1) * (kind[KIND_TEMPORAL_COUNT] + 1) * DIRECTIONS) : 1u;
    if (classes * stride > room) return found;  // the whole block
    for (u32 i = threadIdx.x; i < classes * width; i += blockDim.x)
        shared[i / width * stride + i % width] = found.first[i];
    found.first = shared;
    if (found.stride) found.stride = stride;
    return found;
}

// One stage's prediction, clamped to the slab's span.
#define TAP(role, row, column) \
    if (REFS || (role) == 0) sum += (u32)*table++ * (u32)sample_of(a, role, row, column);
#define ECHO(stage, role, row, column) \
    if (REFS || (role) == 0) sum += (u32)*table++ * (u32)echo_of(a, stage, role, row, column);
template <bool REFS, int STAGE>
__device__ __forceinline__ i32 predict(const Around& a, const Coefficients& coefficients, u32 classed) {
    const i32* table = coefficients.first + classed * coefficients.stride;
    u32 sum = 1u << (COEFFICIENT_BITS - 1);
    if (STAGE == 0) {
        PLAIN_0 ECHOES_0
    } else if (STAGE == 1) {
        PLAIN_1 ECHOES_1
    } else {
        PLAIN_2 ECHOES_2
    }
    return min(max((i32)sum >> COEFFICIENT_BITS, 0), a.model[MODEL_SPAN]);
}
#undef TAP
#undef ECHO

// The context: the expected magnitude's level, finer near the slab's least value, two for flat surroundings.
#define TAP(role, row, column) \
    if (REFS || (role) == 0) energy += (u32)*weight++ * (u32)abs(echo_of(a, STAGES - 1, role, row, column));
#define STEP(role, row, column, role2, row2, column2)                      \
    if (REFS || ((role) == 0 && (role2) == 0))                             \
        energy += (u32)*weight++ *                                         \
                  (u32)abs(sample_of(a, role, row, column) - sample_of(a, role2, row2, column2));
template <bool REFS>
__device__ __forceinline__ u32 find_context(const Around& a, i32 predicted, bool flat) {
    const i32* weight = a.model + a.model[MODEL_KIND(REFS) + KIND_WEIGHTS];
    u32 energy = 0u;
    ENERGIES
    STEPS
    const i32* const levels = a.model + a.model[MODEL_LEVELS];
    const u32 level_count = (u32)a.model[MODEL_LEVELS_COUNT] + 1u, coarse = (u32)a.model[MODEL_COARSE];
    const u32 coarse_count = (level_count + coarse - 1u) / coarse;
    if (flat) {
        const bool same = REFS && sample_of(a, 1, 0, 0) == sample_of(a, 0, 0, -1);
        return level_count + FLOOR_LEVELS * coarse_count + (u32)same;
    }
    const u32 level = count_reached(levels, (i32)level_count - 1, (i32)energy);
    if (predicted < FLOOR_LEVELS) return level_count + (u32)predicted * coarse_count + level / coarse;
    return level;
}
#undef TAP
#undef STEP

// Fold a 16-bit residual: 0, -1, 1, ... become 0, 1, 2, ...
__device__ __forceinline__ u16 fold16(i16 residual) {
    const i32 wide = residual;
    return (u16)((u32)wide * 2u ^ (u32)(wide >> 15));
}

// Ranks of a tile of keys within a block, and cursors for each key: what positions in buckets are made of.
// The order within a tile is that of the threads. All threads of the block call; those without a key vote `none`.
struct Buckets {
    u32 cursors[256];
    u16 before[BLOCK_WARPS][256];  // how many of a key the warps before have
};

// Return the place of this thread's key and move the cursors on. Three barriers.
__device__ __forceinline__ u32 take_place(Buckets& buckets, u32 key, bool has_key) {
    const u32 lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    for (u32 i = threadIdx.x; i < BLOCK_WARPS * 256u; i += BLOCK_WARPS * WARP_LANES) buckets.before[i / 256u][i % 256u] = 0;
    __syncthreads();
    const u32 same = __match_any_sync(FULL_MASK, has_key ? key : 256u);
    const u32 rank = (u32)__popc(same & ((1u << lane) - 1u));
    if (has_key && rank == 0u) buckets.before[warp][key] = (u16)__popc(same);
    __syncthreads();
    u32 place = 0u;
    if (has_key) {
        place = buckets.cursors[key] + rank;
        for (u32 w = 0; w < warp; ++w) place += buckets.before[w][key];
    }
    __syncthreads();
    for (u32 k = threadIdx.x; k < 256u; k += BLOCK_WARPS * WARP_LANES) {
        u32 sum = 0u;
        for (u32 w = 0; w < BLOCK_WARPS; ++w) sum += buckets.before[w][k];
        buckets.cursors[k] += sum;
    }
    return place;
}
