// The decoder's half of the volume codec: one launch is one step of the wavefront over a batch of slabs.
//
// Spec: docs/format-volume.md; equal to codec/volume/reference.py. Layout: wavefront planes (geometry.py): the samples
// with equal t = column + 2 * row lie side by side, so that a line's loads and stores are contiguous.
// Grid: one block for each plane of all slabs of the batch. Plane z is numbered across slabs; delays[z] is lag times its
// number within its slab, and in step s it decodes line s - delays[z] - 5; lines -5 .. -1 only fill edges.
// lag is 1 + how many lines ahead of its own a plane looks into a reference plane, which lies at least one back.
// So whatever a block reads was written by an earlier launch: no flags, no waiting, no order between blocks.
// Dependent steps: columns + 2 * (rows - 1) + 5 + lag * (planes of a slab - 1), 1,663 for 32 planes of 512 x 512,
// however many slabs there are.
// Bytes moved for each sample: 2 read (value), 2 + 2 * stages written, 9 for cursors and what L2 gives of the neighbours.
// Bound: latency. A step is a launch and a chain of about 40 dependent loads and 7 barriers; docs/cost-model.md.
// Streams may be damaged: places are checked against their ends, values against the span; faults[z] tells.
#include "volume.cuh"

// Fill the edges that follow from a sample of an array; `a` stands on it.
template <class T>
__device__ __forceinline__ void extend(T* array, const Around& a, i32 y, i32 x, i32 rows, i32 columns) {
    T* const here = array + a.at;
    const T value = *here;
    if (x == 0 && y < rows - 1)
        for (int step = 1; step <= 3; ++step) here[a.row - step * a.column] = value;
    if (x == columns - 1)
        for (int step = 1; step <= 2; ++step) here[step * a.column] = value;
    if (y == rows - 1)
        for (int depth = 1; depth <= 2; ++depth) {
            here[depth * a.row] = value;
            if (x == 0)
                for (int step = 1; step <= 3; ++step) here[depth * a.row - step * a.column] = here[-step * a.column];
            if (x == columns - 1)
                for (int step = 1; step <= 2; ++step) here[depth * a.row + step * a.column] = value;
        }
}

// Fill one column of the rows above a plane, and with column 0 the left edge of its row 0; `a` stands on row 0.
template <class T>
__device__ __forceinline__ void begin_column(T* array, const Around& a, i32 x, T constant) {
    T* const here = array + a.at;
    const T value = a.first ? here[a.first] : constant;
    here[-a.row] = value;
    here[-2 * a.row] = value;
    if (x == 0)
        for (int step = 1; step <= 3; ++step) here[-step * a.column] = value;
}

// Predict one sample with every stage and find its context.
template <bool REFS>
__device__ __forceinline__ u32 look_ahead(const Around& a, i32* predicted) {
    bool flat;
    const u32 classed = classify<REFS>(a, flat);
    predicted[0] = predict<REFS, 0>(a, classed);
#if STAGES > 1
    predicted[1] = predict<REFS, 1>(a, classed);
#endif
#if STAGES > 2
    predicted[2] = predict<REFS, 2>(a, classed);
#endif
    if (flat) predicted[STAGES - 1] = sample_of(a, 0, 0, -1);
    return find_context<REFS>(a, predicted[STAGES - 1], flat);
}

extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    decode_step(u16* samples, i16* residuals, const i32* model, i32 rows, i32 columns, const i32* first,
                const i32* second, const i32* delays, const u32* model_begins, const u32* starts, u64 stage_size,
                const u16* values, u32* cursors, const u32* ends, u32* faults, i32 step) {
    __shared__ Buckets buckets;
    const i32 z = (i32)blockIdx.x, line = step - delays[z] - 5;
    if (line < -5 || line >= columns + 2 * (rows - 1)) return;  // the whole block
    const i64 height = rows + 4, size = (i64)(columns + 2 * rows + 11) * height;
    Around a;
    a.samples = samples;
    a.residuals = residuals;
    a.model = model + model_begins[z];
    a.column = height;
    a.row = 2 * height + 1;
    a.first = -size * first[z];
    a.second = -size * second[z];
    a.stage_size = (i64)stage_size;
    const i64 origin = z * size + 7 * height + 2;
    if (threadIdx.x <= STAGES && line + 2 <= columns + 1) {  // one thread for the samples, one for each stage
        a.at = origin + (line + 2) * a.column;
        if (threadIdx.x == 0u)
            begin_column<u16>(samples, a, line + 2, (u16)starts[z]);
        else
            begin_column<i16>(residuals + (threadIdx.x - 1u) * stage_size, a, line + 2, (i16)0);
    }
    if (line < 0) return;
    const i32 top = max(0, (line - columns + 2) >> 1), count = min(rows - 1, line >> 1) - top + 1;
    if (count < 1) return;  // one column: odd lines are empty
    for (u32 k = threadIdx.x; k < 256u; k += blockDim.x) buckets.cursors[k] = cursors[z * 256 + (i32)k];
    __syncthreads();
    bool bad = false;
    for (i32 begin = 0; begin < count; begin += (i32)blockDim.x) {
        const i32 y = top + begin + (i32)threadIdx.x, x = line - 2 * y;
        const bool inside = begin + (i32)threadIdx.x < count;
        i32 predicted[STAGES];
        u32 context = 0u;
        a.at = origin + line * a.column + y;
        if (inside) context = first[z] ? look_ahead<true>(a, predicted) : look_ahead<false>(a, predicted);
        const u32 place = take_place(buckets, context, inside);
        if (inside) {
            const bool held = place < ends[z * 256 + (i32)context];
            const u32 folded = held ? values[place] : 0u;
            const u32 value = ((u32)predicted[STAGES - 1] + ((folded >> 1) ^ (0u - (folded & 1u)))) & 0xffffu;
            bad |= !held || value > (u32)a.model[MODEL_SPAN];
            samples[a.at] = (u16)value;
            extend<u16>(samples, a, y, x, rows, columns);
#pragma unroll
            for (int stage = 0; stage < STAGES; ++stage) {
                i16* const echoes = residuals + stage * stage_size;
                echoes[a.at] = (i16)(u16)(value - (u32)predicted[stage]);
                extend<i16>(echoes, a, y, x, rows, columns);
            }
        }
    }
    if (bad) faults[z] = 1u;
    __syncthreads();
    for (u32 k = threadIdx.x; k < 256u; k += blockDim.x) cursors[z * 256 + (i32)k] = buckets.cursors[k];
}

// Copy decoded planes out of the wavefront layout, in any order of rows and columns, with the least value added.
// Grid: threads over (samples of a plane, plane). Bytes moved: 2 read, scattered, and 1 or 2 written.
extern "C" __global__ void unpad_planes(const u16* samples, u32 type, u32 rows, u32 columns, i64 plane_stride,
                                        i64 row_stride, i64 column_stride, i32 least, u8* raw) {
    const u64 sample = global_thread();
    if (sample >= (u64)rows * columns) return;
    const i64 y = (i64)(sample / columns), x = (i64)(sample % columns), z = blockIdx.y;
    const i64 height = rows + 4, size = ((i64)columns + 2 * (i64)rows + 11) * height;
    const i32 value = samples[z * size + 7 * height + 2 + y * (2 * height + 1) + x * height] + least;
    const i64 to = z * plane_stride + y * row_stride + x * column_stride;
    if (type < 2u)
        raw[to] = (u8)value;
    else
        ((u16*)raw)[to] = (u16)value;
}
