// The decoder's half of the volume codec: a wavefront over a batch of slabs, one block for each plane.
//
// Spec: docs/format-volume.md; equal to codec/volume/reference.py. Layout: wavefront planes (geometry.py): the samples
// with equal t = column + 2 * row lie side by side, so that a line's loads and stores are contiguous.
// Grid: one block for each plane of all slabs of the batch, numbered across slabs. A plane's line t may be decoded once
// its reference planes have line t + lag - 1 behind them; lag is 1 + how many lines ahead a plane looks into one.
// Two ways of keeping to that, in one kernel:
//   step < 0   one launch for all. Blocks take planes by ticket in the order in which they start, so what a block waits for
//              runs already, whatever the order in which a card starts blocks; progress[z] counts plane z's finished
//              lines. A wait has an end: after MOST_POLLS the plane is given up and faults[z] is FAULT_STALLED.
//   step >= 0  one launch a step: plane z decodes line step - delays[z] - 5, with delays[z] = lag times its number
//              within its slab. What a block reads was written by an earlier launch, so that no block waits.
// Dependent lines: columns + 2 * (rows - 1) + 5 + lag * (planes of a slab - 1), 1,663 for 32 planes of 512 x 512,
// however many slabs there are.
// Bytes moved for each sample: 2 read (value), 2 + 2 * stages written, 9 for what L2 gives of the neighbours.
// Bound: latency. A line is a chain of about 40 dependent loads, 6 barriers and one fence; docs/cost-model.md.
// Streams may be damaged: places are checked against their ends, values against the span; faults[z] tells.
#include "volume.cuh"

#define FAULT_STREAM 1u
#define FAULT_STALLED 2u

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
__device__ __forceinline__ u32 look_ahead(const Around& a, const Coefficients& last, i32* predicted) {
    bool flat;
    const u32 classed = classify<REFS>(a, flat);
    predicted[0] = predict<REFS, 0>(a, STAGES == 1 ? last : find_coefficients<REFS, 0>(a.model), classed);
#if STAGES > 1
    predicted[1] = predict<REFS, 1>(a, STAGES == 2 ? last : find_coefficients<REFS, 1>(a.model), classed);
#endif
#if STAGES > 2
    predicted[2] = predict<REFS, 2>(a, last, classed);
#endif
    if (flat) predicted[STAGES - 1] = sample_of(a, 0, 0, -1);
    return find_context<REFS>(a, predicted[STAGES - 1], flat);
}

// Wait until a plane has finished so many lines; false if it does not come to that. One thread calls.
__device__ __forceinline__ bool wait_for(i32* progress, i32 lines, i32& seen) {
    if (seen >= lines) return true;
    for (u32 polls = 0u; polls < MOST_POLLS; ++polls) {
        seen = atomicAdd(progress, 0);
        if (seen >= lines) {
            __threadfence();  // what follows, after the block's barrier too, sees what came before the count
            return true;
        }
    }
    return false;
}

// What a block knows of its plane. Kept in shared memory and read again for each line: in registers, the way to each
// neighbour would be held too, and there are more neighbours than registers.
struct Plane {
    Around around;
    Coefficients last;  // of the last stage
    i64 origin;
    i32 z, lines, seen_first, seen_second;
    u32 stalled, faults;
};

// Decode one line of a plane; all threads of the block call.
__device__ __forceinline__ bool decode_line(const Plane& plane, Buckets& buckets, u16* samples, i16* residuals,
                                            u64 stage_size, i32 line, i32 rows, i32 columns, const u16* values,
                                            const u32* ends) {
    const i32 top = max(0, (line - columns + 2) >> 1), count = min(rows - 1, line >> 1) - top + 1;
    bool bad = false;
    for (i32 begin = 0; begin < count; begin += (i32)blockDim.x) {  // not once in one column: odd lines are empty
        Around a = plane.around;
        a.samples = samples;  // parameters take no registers, what comes out of shared memory does
        a.residuals = residuals;
        a.stage_size = (i64)stage_size;
        const i32 y = top + begin + (i32)threadIdx.x, x = line - 2 * y;
        const bool inside = begin + (i32)threadIdx.x < count;
        i32 predicted[STAGES];
        u32 context = 0u;
        a.at = plane.origin + (i64)line * a.column + y;
        if (inside) context = a.first ? look_ahead<true>(a, plane.last, predicted) : look_ahead<false>(a, plane.last, predicted);
        const u32 place = take_place(buckets, context, inside);
        if (inside) {
            const bool held = place < ends[plane.z * 256 + (i32)context];
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
    return bad;
}

// Two blocks to a multiprocessor hide each other's waits. Not where the neighbours then find no room in registers: with
// three stages, and where ptxas for compute capability 10 and up holds more of them at once.
#if STAGES > 2 || __CUDA_ARCH__ >= 1000
#define DECODE_BLOCKS 1
#else
#define DECODE_BLOCKS 2
#endif

// tickets[0] is 0 before the first launch; progress is all below -5 before a launch for all. Dynamic shared memory: `room`
// numbers for the last stage's coefficients, 0 to read them where they are.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32, DECODE_BLOCKS)
    decode_planes(u16* samples, i16* residuals, const i32* model, i32 rows, i32 columns, const i32* first,
                  const i32* second, const i32* delays, const u32* model_begins, const u32* starts, u64 stage_size,
                  const u16* values, u32* cursors, const u32* ends, i32 lag, u32* tickets, i32* progress, u32* faults,
                  u32 room, i32 step) {
    __shared__ Buckets buckets;
    __shared__ Plane plane;
    if (threadIdx.x == 0u) {
        const i32 z = (i32)(atomicAdd(tickets, 1u) % gridDim.x);
        const i64 height = rows + 4, size = (i64)(columns + 2 * rows + 11) * height;
        plane.z = z;
        plane.lines = columns + 2 * (rows - 1);
        plane.origin = z * size + 7 * height + 2;
        plane.seen_first = plane.seen_second = step < 0 ? -6 : plane.lines;
        plane.stalled = plane.faults = 0u;
        plane.around.samples = samples;
        plane.around.residuals = residuals;
        plane.around.model = model + model_begins[z];
        plane.around.at = 0;
        plane.around.column = (i32)height;
        plane.around.row = 2 * (i32)height + 1;
        plane.around.first = -size * first[z];
        plane.around.second = -size * second[z];
        plane.around.stage_size = (i64)stage_size;
    }
    __syncthreads();
    i32 line = step < 0 ? -5 : step - delays[plane.z] - 5;
    const i32 to = step < 0 ? plane.lines : min(plane.lines, line + 1);
    if (line < -5 || line >= to) return;  // the whole block
    DYNAMIC_SHARED(i32, shared);
    const Coefficients last = plane.around.first
                                  ? share_coefficients<true, STAGES - 1>(plane.around.model, shared, room)
                                  : share_coefficients<false, STAGES - 1>(plane.around.model, shared, room);
    if (threadIdx.x == 0u) plane.last = last;
    for (u32 k = threadIdx.x; k < 256u; k += blockDim.x) buckets.cursors[k] = cursors[plane.z * 256 + (i32)k];
    for (; line < to; ++line) {
        if (threadIdx.x == 0u && plane.around.first) {
            const i32 needed = min(line + lag, plane.lines), z = plane.z;
            if (!wait_for(progress + z - first[z], needed, plane.seen_first) ||
                !wait_for(progress + z - second[z], needed, plane.seen_second))
                plane.stalled = 1u;
        }
        __syncthreads();
        if (plane.stalled) break;  // the whole block
        if (threadIdx.x <= STAGES && line + 2 <= columns + 1) {  // one thread for the samples, one for each stage
            Around a = plane.around;
            a.at = plane.origin + (i64)(line + 2) * a.column;
            if (threadIdx.x == 0u)
                begin_column<u16>(samples, a, line + 2, (u16)starts[plane.z]);
            else
                begin_column<i16>(residuals + (threadIdx.x - 1u) * stage_size, a, line + 2, (i16)0);
        }
        if (line >= 0 && decode_line(plane, buckets, samples, residuals, stage_size, line, rows, columns, values, ends))
            atomicOr(&plane.faults, FAULT_STREAM);
        __syncthreads();
        if (threadIdx.x == 0u && step < 0) {
            __threadfence();  // the block's writes, ordered before by the barrier, come before the count
            atomicExch(progress + plane.z, line + 1);
        }
    }
    if (threadIdx.x == 0u) {
        if (plane.stalled) atomicExch(progress + plane.z, plane.lines);  // nobody shall wait for this plane as long again
        faults[plane.z] |= plane.faults | plane.stalled * FAULT_STALLED;
    }
    for (u32 k = threadIdx.x; k < 256u; k += blockDim.x) cursors[plane.z * 256 + (i32)k] = buckets.cursors[k];
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
