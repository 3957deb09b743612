// What the fit sums over samples of slabs' voxels: activity, noise, products of neighbours, magnitudes.
//
// Spec: codec/volume/fit.py, whose arrays these equal; what is solved from them is solved on the host. All sums are
// of integers and do not overflow (weight_bits in fit.py), so the order in which blocks add them does not show.
// A group is what is drawn from one slab's planes of one kind (with references or without). Arrays of voxels hold the
// groups' one after another; `groups` has a row of GROUP_ numbers for each, and group g is blockIdx.y.
// Grid: threads over (voxels of the largest group, groups), but sum_products: one block for each piece of a class.
// Block: BLOCK_WARPS warps. Layout: raster planes with edges (geometry.py); stages before are whole.
// Preconditions: fewer than 2^32 voxels in the planes of a batch, at most 2^19 drawn for a group, at most 62 columns.
// Bytes moved: a run of RUN voxels and its neighbours lie in some 26 sectors of 32 bytes in each array looked at, 52 bytes a
// sampled voxel; draw_sample and sum_products look into samples, measure_noise, sum_products and gather_magnitudes into
// residuals. 3 % of a slab are sampled, so a kernel moves 2 to 6 bytes for each voxel of the slab.
// Bound: sum_products by multiply-adds of 32 x 32 into 64 bits, columns * (columns + 1) / 2 for each sampled voxel, 819 at
// level default, with two loads from shared memory each, free of conflicts (rows of 33); the others by memory.
#include "volume.cuh"

#define TILE 32u
#define MOST_COLUMNS 63u
#define PAIRS_A_THREAD 8u

// A group's numbers: how many voxels, where they begin, out of how many they are drawn, where the planes they are drawn
// from begin in `members`, and whether those have references.
#define GROUP_NUMBERS 5u
#define GROUP_COUNT 0u
#define GROUP_BEGIN 1u
#define GROUP_TOTAL 2u
#define GROUP_MEMBERS 3u
#define GROUP_REFS 4u
// Its thresholds: where they begin, how many are spatial and temporal, and where its classes begin.
#define CUT_NUMBERS 4u
#define CUT_BEGIN 0u
#define CUT_SPATIAL 1u
#define CUT_TEMPORAL 2u
#define CUT_CLASSES 3u

// Where a sampled voxel lies and what leads to its references.
__device__ __forceinline__ Around around_place(const u16* samples, const i16* residuals, i64 place, u32 rows,
                                               u32 columns, const i32* first, const i32* second, u64 stage_size) {
    const u32 pitch = columns + 5u;
    const i64 size = (i64)pitch * (rows + 4u), z = place / size;
    Around a;
    a.samples = samples;
    a.residuals = residuals;
    a.model = nullptr;
    a.at = place;
    a.column = 1;
    a.row = (i32)pitch;
    a.first = -size * first[z];
    a.second = -size * second[z];
    a.stage_size = (i64)stage_size;
    return a;
}

// Draw runs of RUN voxels evenly, with a fixed jitter, out of the planes that `members` lists; measure the activity around
// each voxel.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    draw_sample(const u16* samples, const u32* groups, const u32* members, u32 rows, u32 columns, const i32* first,
                const i32* second, i64* places, i32* spatial, i32* temporal, u8* directions) {
    const u32* const group = groups + blockIdx.y * GROUP_NUMBERS;
    const u64 index = global_thread(), count = group[GROUP_COUNT], total = group[GROUP_TOTAL];
    if (index >= count) return;
    const u64 run = index / RUN, runs = (count + RUN - 1u) / RUN;
    const u64 begin = run * total / runs, end = (run + 1u) * total / runs;
    const u32 room = end - begin < RUN ? 1u : (u32)(end - begin) - (RUN - 1u);
    const u64 drawn = begin + (u32)run * 2654435761u % room + index % RUN;
    const u64 chosen = drawn < total ? drawn : total - 1u;
    const u64 area = (u64)rows * columns, within = chosen % area;
    const i64 pitch = columns + 5u, size = pitch * (rows + 4u);
    const i64 plane = (i64)members[group[GROUP_MEMBERS] + chosen / area] * size;
    const i64 place = plane + (i64)(within / columns + 2u) * pitch + (i64)(within % columns) + 3;
    const Around a = around_place(samples, nullptr, place, rows, columns, first, second, 0u);
    const Activity activity = group[GROUP_REFS] ? measure_activity<true>(a) : measure_activity<false>(a);
    const u64 to = group[GROUP_BEGIN] + index;
    places[to] = place;
    spatial[to] = activity.spatial;
    temporal[to] = activity.temporal;
    directions[to] = (u8)activity.direction;
}

// Write each voxel's class, counted from its group's first, and count the classes; counts are zero before.
// Lanes of one class add once: classes are few, and 32 lanes on one number would wait for each other.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    classify_sample(const u32* groups, const u32* cuts, const i32* spatial, const i32* temporal, const u8* directions,
                    const i32* thresholds, u32* classes, u32* counts) {
    const u32 *const group = groups + blockIdx.y * GROUP_NUMBERS, *const cut = cuts + blockIdx.y * CUT_NUMBERS;
    const u64 index = global_thread(), at = group[GROUP_BEGIN] + index;
    const bool inside = index < group[GROUP_COUNT];
    u32 found = 0xffffffffu;
    if (inside) {
        const i32* const own = thresholds + cut[CUT_BEGIN];
        found = count_reached(own, (i32)cut[CUT_SPATIAL], spatial[at]) * (cut[CUT_TEMPORAL] + 1u) +
                count_reached(own + cut[CUT_SPATIAL], (i32)cut[CUT_TEMPORAL], temporal[at]);
#if DIRECTIONS == 4
        found = 4u * found + directions[at];
#endif
        found += cut[CUT_CLASSES];
        classes[at] = found;
    }
    const u32 same = __match_any_sync(FULL_MASK, found);
    if (inside && (same & ((1u << threadIdx.x % WARP_LANES) - 1u)) == 0u) atomicAdd(&counts[found], (u32)__popc(same));
}

// List the voxels class by class, in any order within a class; cursors are where the classes begin.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    order_sample(const u32* classes, u32 count, u32* cursors, u32* order) {
    const u64 index = global_thread();
    const bool inside = index < count;
    const u32 lane = threadIdx.x % WARP_LANES, found = inside ? classes[index] : 0xffffffffu;
    const u32 same = __match_any_sync(FULL_MASK, found), before = same & ((1u << lane) - 1u);
    u32 begin = 0u;
    if (inside && before == 0u) begin = atomicAdd(&cursors[found], (u32)__popc(same));
    begin = __shfl_sync(FULL_MASK, begin, __ffs((i32)same) - 1);
    if (inside) order[begin + (u32)__popc(before)] = (u32)index;
}

#define TAP(role, row, column) \
    if (REFS || (role) == 0) noise += abs(echo_of(a, stage, role, row, column));
template <bool REFS>
__device__ __forceinline__ i32 noise_around(const Around& a, int stage) {
    i32 noise = 0;
    ENERGIES
    return noise;
}
#undef TAP

// Write how large one stage's residuals are around each voxel.
// Four blocks to a multiprocessor, for the same reason as below.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32, 4)
    measure_noise(const i16* residuals, const u32* groups, const i64* places, u32 rows, u32 columns, const i32* first,
                  const i32* second, u64 stage_size, u32 stage, i32* noise) {
    const u32* const group = groups + blockIdx.y * GROUP_NUMBERS;
    const u64 index = global_thread(), at = group[GROUP_BEGIN] + index;
    if (index >= group[GROUP_COUNT]) return;
    const Around a = around_place(nullptr, residuals, places[at], rows, columns, first, second, stage_size);
    noise[at] = group[GROUP_REFS] ? noise_around<true>(a, (int)stage) : noise_around<false>(a, (int)stage);
}

// Add up the products of columns over voxels order[begin, end) of class `owner`, the second factor weighed: the
// triangle of pairs i <= j of columns 0 .. width, but the last with itself; column `width` is the target. pieces has
// (begin, end, owner, floor, bits) for each block.
// Column c is (stage, role, step) in table[3 c]: stage 0 a sample less the western neighbour, s > 0 a residual of stage
// s - 1. With floor 0 all weights are 1; else they follow from the noise as in fit.weigh.
// sums has the shape (classes, width, width + 1), 64 bits, zero before. Shared memory: 18 KiB. Three blocks to a
// multiprocessor are asked for because without, some ptxas aim at 48 registers and spill.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32, 3)
    sum_products(const u16* samples, const i16* residuals, const i64* places, const u32* order, const u32* pieces,
                 const i32* noise, u32 rows, u32 columns, const i32* first, const i32* second, u64 stage_size,
                 const i32* table, u32 width, u64* sums) {
    __shared__ i32 values[MOST_COLUMNS][TILE + 1u];
    __shared__ i32 weighed[MOST_COLUMNS][TILE + 1u];
    __shared__ i64 bases[3][TILE];
    __shared__ i32 wests[TILE];
    __shared__ i32 weights[TILE];
    i64 total[PAIRS_A_THREAD];
    u32 pair[PAIRS_A_THREAD];  // column i in the upper half, j in the lower
    const u32 pairs = width * (width + 1u) / 2u + width;
#pragma unroll
    for (u32 k = 0; k < PAIRS_A_THREAD; ++k) {
        u32 left = threadIdx.x + k * blockDim.x, row = 0u;
        while (row < width && left >= width + 1u - row) {
            left -= width + 1u - row;
            ++row;
        }
        total[k] = 0;
        pair[k] = row < width ? row << 16 | (row + left) : 0u;
    }
    const u32* const piece = pieces + 5u * blockIdx.x;
    const u32 begin = piece[0], end = piece[1], floor = piece[3], bits = piece[4];
    for (u32 tile = begin; tile < end; tile += TILE) {
        if (threadIdx.x < TILE) {
            const u32 lane = threadIdx.x;
            const bool inside = tile + lane < end;
            i32 weight = 0;
            if (inside) {
                const u32 voxel = order[tile + lane];
                const Around a =
                    around_place(samples, residuals, places[voxel], rows, columns, first, second, stage_size);
                bases[0][lane] = a.at;
                bases[1][lane] = a.at + a.first;
                bases[2][lane] = a.at + a.second;
                wests[lane] = sample_of(a, 0, 0, -1);
                weight = 1;
                if (floor) {
                    const u64 ratio = ((u64)floor << bits) / (10u * (u64)noise[voxel] + floor);
                    weight = max((i32)(ratio * ratio >> bits), 1);
                }
            }
            weights[lane] = weight;
        }
        __syncthreads();
        for (u32 item = threadIdx.x; item < (width + 1u) * TILE; item += blockDim.x) {
            const u32 column = item / TILE, lane = item % TILE;
            i32 value = 0;
            if (tile + lane < end) {
                const i32 stage = table[3u * column];
                const i64 at = bases[table[3u * column + 1u]][lane] + table[3u * column + 2u];
                value = stage ? (i32)residuals[(stage - 1) * (i64)stage_size + at] : (i32)samples[at] - wests[lane];
            }
            values[column][lane] = value;
            weighed[column][lane] = value * weights[lane];
        }
        __syncthreads();
#pragma unroll
        for (u32 k = 0; k < PAIRS_A_THREAD; ++k) {
            if (k * blockDim.x >= pairs) break;  // the same for the whole block
            const i32* const one = values[pair[k] >> 16];
            const i32* const other = weighed[pair[k] & 0xffffu];
#pragma unroll 4
            for (u32 lane = 0; lane < TILE; ++lane) total[k] += (i64)one[lane] * other[lane];
        }
        __syncthreads();
    }
    u64* const found = sums + (u64)piece[2] * width * (width + 1u);
#pragma unroll
    for (u32 k = 0; k < PAIRS_A_THREAD; ++k)
        if (threadIdx.x + k * blockDim.x < pairs && total[k])
            atomicAdd(&found[(pair[k] >> 16) * (width + 1u) + (pair[k] & 0xffffu)], (u64)total[k]);
}

#define TAP(role, row, column)                                                              \
    if (REFS || (role) == 0) {                                                              \
        *out = (u16)abs(echo_of(a, STAGES - 1, role, row, column));                         \
        out += count;                                                                       \
    }
#define STEP(role, row, column, role2, row2, column2)                                                   \
    if (REFS || ((role) == 0 && (role2) == 0)) {                                                        \
        *out = (u16)abs(sample_of(a, role, row, column) - sample_of(a, role2, row2, column2));          \
        out += count;                                                                                   \
    }
template <bool REFS>
__device__ __forceinline__ void write_magnitudes(const Around& a, u64 count, u16* out) {
    ENERGIES
    STEPS
    *out = (u16)abs(echo_of(a, STAGES - 1, 0, 0, 0));
}
#undef TAP
#undef STEP

// Write what the contexts' weights are fitted to: magnitudes of the last stage's residuals, of the steps between samples,
// and of the voxel's own residual. For each group one run of RUN voxels in weighed[3 g], weighed[3 g + 1] voxels in all,
// and a row of that many for each magnitude, from magnitudes[weighed[3 g + 2]] on.
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS * 32)
    gather_magnitudes(const u16* samples, const i16* residuals, const u32* groups, const u32* weighed,
                      const i64* places, u32 rows, u32 columns, const i32* first, const i32* second, u64 stage_size,
                      u16* magnitudes) {
    const u32 *const group = groups + blockIdx.y * GROUP_NUMBERS, *const own = weighed + 3u * blockIdx.y;
    const u64 index = global_thread(), count = own[1];
    if (index >= count) return;
    const u64 voxel = group[GROUP_BEGIN] + index / RUN * own[0] * RUN + index % RUN;
    const Around a = around_place(samples, residuals, places[voxel], rows, columns, first, second, stage_size);
    u16* const out = magnitudes + own[2] + index;
    if (group[GROUP_REFS])
        write_magnitudes<true>(a, count, out);
    else
        write_magnitudes<false>(a, count, out);
}
