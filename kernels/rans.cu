// The rANS stage both ways, for the chunks of any number of payloads: one warp codes one chunk, lane j the symbols j,
// j + lanes, j + 2 lanes, ... of it.
//
// Spec: docs/format-entropy.md#rans. Equal to codec/entropy/reference.py, word for word.
// Grid: one warp for each chunk, RANS_WARPS warps to a block; shared memory: none.
// Chunk c has states[state_begins[c], state_begins[c + 1]), one for each lane. Stored, it is in `ranges`: states, then words.
// Preconditions: lanes are a power of two up to 32; run_ends rises strictly and ends at bounds[chunks];
// tables are valid (frequencies sum to 2^SCALE_BITS, every coded symbol has one); symbols < 2^31.
// Bytes moved: 1 read and about 1 written for each symbol, each way; table look-ups stay in L1.
// Bound: the state is a chain, about 150 cycles a step in decode (slot, entry, ballot, word) and 100 in encode, so a
// warp alone gives 32 symbols in that time; chunks of 2^16 symbols give thousands of warps, and then
// instructions bind: 30 to 45 for each symbol of a lane.
//
// All 32 lanes go through every step together, so that ballots always name the full warp: lanes beyond the
// chunk's own, and positions past its end, only vote 0.
#include "common.cuh"

#define SLOT_MASK ((1u << SCALE_BITS) - 1u)
#define WORD_BITS 16u
#define LOWEST_STATE (1u << WORD_BITS)

#define FAULT_START 1u
#define FAULT_WORDS 2u
#define FAULT_END 4u

// The first run that ends after `position`. Branches go the same way for most lanes: positions lie side by side.
__device__ __forceinline__ u32 find_run(const i64* run_ends, u32 runs, i64 position) {
    u32 low = 0u, high = runs;
    while (low < high) {
        const u32 middle = (low + high) / 2u;
        if (run_ends[middle] > position)
            high = middle;
        else
            low = middle + 1u;
    }
    return low;
}

// Encode each chunk backwards. Its words fill scratch[begin, end) from the end; word_counts says how many.
extern "C" __global__ void __launch_bounds__(RANS_WARPS * 32) rans_encode(
    const u8* __restrict__ symbols, const i64* __restrict__ bounds, const i64* __restrict__ run_ends,
    const u32* __restrict__ run_tables, u32 runs, const u32* __restrict__ entries,
    const u32* __restrict__ state_begins, u32 chunks, u16* __restrict__ scratch, u32* __restrict__ states,
    u32* __restrict__ word_counts) {
    const u64 chunk = global_thread() / WARP_LANES;
    if (chunk >= chunks) return;  // whole warps
    const u32 lane = threadIdx.x % WARP_LANES;
    const u32 own = state_begins[chunk], lanes = state_begins[chunk + 1] - own;
    const u32 above = lane == 31u ? 0u : FULL_MASK << (lane + 1u);
    const i64 begin = bounds[chunk], end = bounds[chunk + 1];
    const i64 steps = (end - begin + lanes - 1) / lanes;
    i64 position = begin + (steps - 1) * lanes + lane;
    u32 run = find_run(run_ends, runs, min(position, end - 1));
    i64 run_begin = run ? run_ends[run - 1u] : 0;
    i64 cursor = end;
    u32 state = LOWEST_STATE;
    for (i64 step = steps; step > 0; --step, position -= lanes) {
        const bool active = lane < lanes && position < end;
        u32 frequency = 1u, start = 0u;
        if (active) {
            while (position < run_begin) {
                --run;
                run_begin = run ? run_ends[run - 1u] : 0;
            }
            const u32 entry = entries[run_tables[run] * 256u + symbols[position]];
            frequency = entry & 0xffffu;
            start = entry >> 16;
        }
        // 64 bits: a frequency of 2^SCALE_BITS would reach 2^32, and such a table is refused only by its maker.
        const bool full = active && state >= ((u64)frequency << (32u - SCALE_BITS));
        const u32 votes = __ballot_sync(FULL_MASK, full);
        if (full) {
            // The word of the highest lane lies last, so that a decoder takes them in order of the lane.
            scratch[cursor - 1 - __popc(votes & above)] = (u16)state;
            state >>= WORD_BITS;
        }
        cursor -= __popc(votes);
        if (active) {
            const u32 quotient = state / frequency;
            state = (quotient << SCALE_BITS) + (state - quotient * frequency) + start;
        }
    }
    if (lane < lanes) states[own + lane] = state;
    if (lane == 0u) word_counts[chunk] = (u32)(end - cursor);
}

// Lay each chunk out as it is stored: its states, the lower half of each first, then its words from the end of its stretch
// of `scratch`. One block for each chunk; ranges[range_begins[c], range_begins[c + 1]) is chunk c's.
extern "C" __global__ void rans_gather(const u16* __restrict__ scratch, const i64* __restrict__ bounds,
                                       const u32* __restrict__ states, const u32* __restrict__ state_begins,
                                       const i64* __restrict__ range_begins, u16* __restrict__ ranges) {
    const u64 chunk = blockIdx.x;
    const u32 own = state_begins[chunk], lanes = state_begins[chunk + 1] - own;
    u16* const to = ranges + range_begins[chunk];
    const i64 count = range_begins[chunk + 1] - range_begins[chunk] - 2 * lanes;
    const u16* const from = scratch + (bounds[chunk + 1] - count);
    for (u32 i = threadIdx.x; i < 2u * lanes; i += blockDim.x) to[i] = (u16)(states[own + i / 2u] >> (i & 1u) * 16u);
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) to[2 * lanes + i] = from[i];
}

// Write the symbol of every slot of every table, for rans_decode: one block for each table, any block size.
extern "C" __global__ void rans_fill_slots(const u32* __restrict__ entries, u8* __restrict__ slots) {
    const u32* const own = entries + blockIdx.x * 256u;
    for (u32 slot = threadIdx.x; slot <= SLOT_MASK; slot += blockDim.x) {
        u32 low = 0u;  // the last symbol that begins at or before the slot: those of frequency 0 begin with the next
        for (u32 step = 128u; step; step /= 2u)
            if (own[low + step] >> 16 <= slot) low += step;
        slots[((u64)blockIdx.x << SCALE_BITS) + slot] = (u8)low;
    }
}

// Decode each chunk. `faults` gets FAULT_ bits where a chunk does not come out even; its symbols are then worthless,
// but no access leaves the buffers whatever the states and words hold.
extern "C" __global__ void __launch_bounds__(RANS_WARPS * 32) rans_decode(
    const u16* __restrict__ ranges, const i64* __restrict__ range_begins, const i64* __restrict__ bounds,
    const i64* __restrict__ run_ends, const u32* __restrict__ run_tables, u32 runs, const u8* __restrict__ slots,
    const u32* __restrict__ entries, const u32* __restrict__ state_begins, u32 chunks, u8* __restrict__ symbols,
    u32* __restrict__ faults) {
    const u64 chunk = global_thread() / WARP_LANES;
    if (chunk >= chunks) return;  // whole warps
    const u32 lane = threadIdx.x % WARP_LANES;
    const u32 lanes = state_begins[chunk + 1] - state_begins[chunk];
    const u32 below = (1u << lane) - 1u;
    const i64 begin = bounds[chunk], end = bounds[chunk + 1];
    const i64 steps = (end - begin + lanes - 1) / lanes;
    i64 position = begin + lane;
    u32 run = find_run(run_ends, runs, min(position, end - 1));
    i64 run_end = run_ends[run];
    const u16* const states = ranges + range_begins[chunk];
    u32 state = lane < lanes ? (u32)states[2u * lane] | (u32)states[2u * lane + 1u] << 16 : LOWEST_STATE;
    i64 cursor = range_begins[chunk] + 2 * lanes;
    const i64 words_end = range_begins[chunk + 1];
    u32 fault = __any_sync(FULL_MASK, state < LOWEST_STATE) ? FAULT_START : 0u;
    for (i64 step = 0; step < steps && !fault; ++step, position += lanes) {
        const bool active = lane < lanes && position < end;
        if (active) {
            while (position >= run_end) run_end = run_ends[++run];
            const u32 table = run_tables[run];
            const u32 slot = state & SLOT_MASK;
            const u32 symbol = slots[(table << SCALE_BITS) + slot];
            const u32 entry = entries[table * 256u + symbol];
            symbols[position] = (u8)symbol;
            state = (entry & 0xffffu) * (state >> SCALE_BITS) + slot - (entry >> 16);
        }
        const bool low = active && state < LOWEST_STATE;
        const u32 votes = __ballot_sync(FULL_MASK, low);
        const u32 taken = (u32)__popc(votes);
        if (cursor + taken > words_end) {  // the same for the whole warp
            fault = FAULT_WORDS;
        } else {
            if (low) state = (state << WORD_BITS) | ranges[cursor + __popc(votes & below)];
            cursor += taken;
        }
    }
    if (!fault && (__any_sync(FULL_MASK, state != LOWEST_STATE) || cursor != words_end)) fault = FAULT_END;
    if (lane == 0u) faults[chunk] = fault;
}
