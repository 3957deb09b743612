// The encoder's half of the volume codec, for a batch of slabs: padded planes, residuals, contexts, buckets.
//
// Spec: docs/format-volume.md; equal to codec/volume/reference.py. Layout: raster planes with edges (geometry.py). All
// slabs of a batch have one shape of plane and one sample type; their planes are numbered across slabs, and lie one after
// another. What a plane needs of its slab stands in arrays of a number for each plane: first[z] and second[z] are how many
// planes back its references lie, 0 where it has none, model_begins[z] is where its slab's model begins.
// Grid: threads over (places of a plane, plane) for all kernels but predict_stage and find_limits, whose blocks go through
// PREDICT_TURNS times their threads, and gather_values, which has one block for each plane.
// Preconditions: block of BLOCK_WARPS warps; a batch holds fewer than 2^32 values.
// Bytes moved for each sample: pad_planes 4, pad_residuals 0.2, predict_stage 2 samples + 2 for each stage looked into +
// 2 to write + what L2 gives again of the neighbours, find_contexts 5, gather_values 2 + 1 + 4 (order, from L2) + 2.
// Bound: predict_stage and find_contexts by integer lanes, about 340 and 260 instructions a sample with the default
// taps; coefficients come from shared memory, where 32 lanes of some 8 classes take 1 to 2 passes. gather_values by
// latency: area / 256 turns of four barriers for a block, however many planes there are. The rest by memory.
#include "volume.cuh"

__device__ __forceinline__ i32 raw_sample(const u8* raw, u32 type, i64 index) {
    switch (type) {
        case 0: return (i32)raw[index];
        case 1: return (i32)((const i8*)raw)[index];
        case 2: return (i32)((const u16*)raw)[index];
        default: return (i32)((const i16*)raw)[index];
    }
}

// limits[2 s] = min, limits[2 s + 1] = max of slab s's samples; set to the extremes before. lines[s] gets the first line
// of slab s's first plane: `columns` numbers.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    find_limits(const u8* raw, u32 type, u64 area, i64 column_stride, u32 columns, const i32* slabs, i32* limits,
                i32* lines) {
    i32 least = 0x7fffffff, most = -0x7fffffff;
    const i64 plane = (i64)(blockIdx.y * area);
    const i32 slab = slabs[blockIdx.y];
    for (u32 turn = 0u; turn < PREDICT_TURNS; ++turn) {
        const u64 i = ((u64)blockIdx.x * PREDICT_TURNS + turn) * blockDim.x + threadIdx.x;
        if (i >= area) break;
        const i32 value = raw_sample(raw, type, plane + (i64)i);
        least = min(least, value);
        most = max(most, value);
    }
    if (blockIdx.x == 0u && (blockIdx.y == 0u || slabs[blockIdx.y - 1u] != slab))
        for (u32 x = threadIdx.x; x < columns; x += blockDim.x)
            lines[(u64)slab * columns + x] = raw_sample(raw, type, plane + (i64)x * column_stride);
    for (u32 distance = 16u; distance; distance /= 2u) {
        least = min(least, __shfl_xor_sync(FULL_MASK, least, distance));
        most = max(most, __shfl_xor_sync(FULL_MASK, most, distance));
    }
    if (threadIdx.x % WARP_LANES == 0u) {
        atomicMin(&limits[2 * slab], least);
        atomicMax(&limits[2 * slab + 1], most);
    }
}

// Where the value of a padded place comes from: an inner sample, or nowhere (then a constant is meant).
// A chain of at most three steps: below -> last row, right -> last column, left -> above, above -> reference's row 0.
__device__ __forceinline__ bool source_of(i32 rows, i32 columns, const i32* first, i64& z, i32& y, i32& x) {
    if (y >= rows) y = rows - 1;
    if (x >= columns) x = columns - 1;
    for (int step = 0; step < 2; ++step) {
        if (y >= 0 && x < 0) {
            y -= 1;
            x = 0;
        }
        if (y < 0) {
            if (first[z] == 0) return false;
            z -= first[z];
            y = 0;
        }
    }
    return true;
}

// Fill padded planes, edges included, from raw samples in any order of rows and columns; least[z] and start[z] are the
// least sample of the plane's slab, and what stands for what there is not.
extern "C" __global__ void pad_planes(const u8* raw, u32 type, i64 plane_stride, i64 row_stride, i64 column_stride,
                                      u32 rows, u32 columns, const i32* first, const i32* least, const i32* start,
                                      u16* planes) {
    const u32 pitch = columns + 5u;
    const u64 size = (u64)pitch * (rows + 4u), place = global_thread();
    if (place >= size) return;
    i64 z = blockIdx.y;
    i32 y = (i32)(place / pitch) - 2, x = (i32)(place % pitch) - 3;
    u16 value = (u16)start[blockIdx.y];
    if (source_of((i32)rows, (i32)columns, first, z, y, x))
        value = (u16)(raw_sample(raw, type, z * plane_stride + y * row_stride + x * column_stride) - least[blockIdx.y]);
    planes[blockIdx.y * size + place] = value;
}

// Fill the edges of one stage's residuals in place, from their inner samples; 0 where there is nothing above.
extern "C" __global__ void pad_residuals(u32 rows, u32 columns, const i32* first, i16* residuals) {
    const u32 pitch = columns + 5u;
    const u64 size = (u64)pitch * (rows + 4u), place = global_thread();
    if (place >= size) return;
    i64 z = blockIdx.y;
    i32 y = (i32)(place / pitch) - 2, x = (i32)(place % pitch) - 3;
    if (y >= 0 && y < (i32)rows && x >= 0 && x < (i32)columns) return;  // reads inner samples only: no race
    i16 value = 0;
    if (source_of((i32)rows, (i32)columns, first, z, y, x)) value = residuals[z * size + (u64)(y + 2) * pitch + x + 3];
    residuals[blockIdx.y * size + place] = value;
}

__device__ __forceinline__ Around around_raster(const u16* samples, const i16* residuals, const i32* model, u32 rows,
                                                u32 columns, const i32* first, const i32* second, u64 stage_size,
                                                u64 sample) {
    const u32 pitch = columns + 5u;
    const i64 size = (i64)pitch * (rows + 4u), z = blockIdx.y;
    Around a;
    a.samples = samples;
    a.residuals = residuals;
    a.model = model;
    a.at = z * size + (i64)(sample / columns + 2u) * pitch + (i64)(sample % columns) + 3;
    a.column = 1;
    a.row = (i32)pitch;
    a.first = -size * first[z];
    a.second = -size * second[z];
    a.stage_size = (i64)stage_size;
    return a;
}

template <bool REFS, int STAGE>
__device__ __forceinline__ void predict_plane(const u16* samples, i16* residuals, const i32* model, u32 rows, u32 columns,
                                              const i32* first, const i32* second, u64 stage_size, u32 room) {
    DYNAMIC_SHARED(i32, shared);
    const Coefficients coefficients = share_coefficients<REFS, STAGE>(model, shared, room);
    __syncthreads();
    for (u32 turn = 0u; turn < PREDICT_TURNS; ++turn) {
        const u64 sample = ((u64)blockIdx.x * PREDICT_TURNS + turn) * blockDim.x + threadIdx.x;
        if (sample >= (u64)rows * columns) return;
        const Around a = around_raster(samples, residuals, model, rows, columns, first, second, stage_size, sample);
        bool flat = false;
        u32 classed = 0u;
        if (STAGE > 0 || STAGES == 1) classed = classify<REFS>(a, flat);
        i32 predicted = predict<REFS, STAGE>(a, coefficients, classed);
        if (STAGE == STAGES - 1 && flat) predicted = sample_of(a, 0, 0, -1);
        residuals[STAGE * stage_size + (u64)a.at] = (i16)(u16)((u32)samples[a.at] - (u32)predicted);
    }
}

// Write one stage's residuals of all inner samples. The stages before are whole, edges included. A block goes through
// PREDICT_TURNS times its threads, so that its copy of the coefficients costs 6 bytes of L2 a sample; dynamic shared
// memory: `room` numbers, 0 to read them where they are.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    predict_stage(const u16* samples, i16* residuals, const i32* models, const i32* model_begins, u32 rows, u32 columns,
                  const i32* first, const i32* second, u64 stage_size, u32 stage, u32 room) {
    const i32* const model = models + model_begins[blockIdx.y];
#define PREDICT(refs, stage) \
    predict_plane<refs, stage>(samples, residuals, model, rows, columns, first, second, stage_size, room)
    if (first[blockIdx.y]) {
        if (stage == 0u) PREDICT(true, 0);
#if STAGES > 1
        if (stage == 1u) PREDICT(true, 1);
#endif
#if STAGES > 2
        if (stage == 2u) PREDICT(true, 2);
#endif
    } else {
        if (stage == 0u) PREDICT(false, 0);
#if STAGES > 1
        if (stage == 1u) PREDICT(false, 1);
#endif
#if STAGES > 2
        if (stage == 2u) PREDICT(false, 2);
#endif
    }
#undef PREDICT
}

// Write each sample's context, and count them: counts has 256 for each plane and is zero before.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    find_contexts(const u16* samples, const i16* residuals, const i32* models, const i32* model_begins, u32 rows,
                  u32 columns, const i32* first, const i32* second, u64 stage_size, u8* contexts, u32* counts) {
    __shared__ u32 bins[256];
    const i32* const model = models + model_begins[blockIdx.y];
    for (u32 bin = threadIdx.x; bin < 256u; bin += blockDim.x) bins[bin] = 0u;
    __syncthreads();
    const u64 sample = global_thread(), area = (u64)rows * columns;
    if (sample < area) {
        const Around a = around_raster(samples, residuals, model, rows, columns, first, second, stage_size, sample);
        const i32 residual = residuals[(STAGES - 1) * stage_size + (u64)a.at];
        const i32 predicted = (i32)(((u32)samples[a.at] - (u32)residual) & 0xffffu);
        bool flat;
        u32 context;
        if (first[blockIdx.y]) {
            classify<true>(a, flat);
            context = find_context<true>(a, predicted, flat);
        } else {
            classify<false>(a, flat);
            context = find_context<false>(a, predicted, flat);
        }
        contexts[blockIdx.y * area + sample] = (u8)context;
        atomicAdd(&bins[context], 1u);
    }
    __syncthreads();
    for (u32 bin = threadIdx.x; bin < 256u; bin += blockDim.x)
        if (bins[bin]) atomicAdd(&counts[blockIdx.y * 256u + bin], bins[bin]);
}

// Write folded residuals to their places: one block for each plane, walking order[], the wavefront order of a plane.
// cursors[z][c] is where plane z's values of context c begin.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    gather_values(const i16* residuals, const u8* contexts, const u32* order, const u32* cursors, u32 rows,
                  u32 columns, u16* values) {
    __shared__ Buckets buckets;
    const u32 area = rows * columns, pitch = columns + 5u;
    const i16* const plane = residuals + (u64)blockIdx.x * pitch * (rows + 4u);
    for (u32 k = threadIdx.x; k < 256u; k += blockDim.x) buckets.cursors[k] = cursors[blockIdx.x * 256u + k];
    __syncthreads();
    for (u32 begin = 0u; begin < area; begin += blockDim.x) {
        const u32 index = begin + threadIdx.x;
        const bool inside = index < area;
        const u32 sample = inside ? order[index] : 0u;
        const u32 context = contexts[(u64)blockIdx.x * area + sample];
        const u32 place = take_place(buckets, context, inside);
        if (inside) values[place] = fold16(plane[(u64)(sample / columns + 2u) * pitch + sample % columns + 3u]);
    }
}
