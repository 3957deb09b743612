// Blocks that are under way at once, as on a card: each keeps its fibers and its shared memory while others have their turn.
//
// A block gives way when a round of its threads brings nothing, as while it waits for another block, and otherwise by
// chance, with some of its threads behind the others: so blocks overtake each other, and see what others left half done.
// Part of runtime.cpp, whose state it exchanges.

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<uint32_t> order;
    std::vector<unsigned char> shared, dynamic;
    GsIndex index;
    uint32_t arrived, barrier_sum;
    size_t present;  // fibers that have not left
};

void exchange_bytes(unsigned char* one, std::vector<unsigned char>& other) {
    for (size_t i = 0; i < other.size(); ++i) {
        const unsigned char kept = ((volatile unsigned char*)one)[i];
        ((volatile unsigned char*)one)[i] = other[i];
        other[i] = kept;
    }
}

// Put a block where the runtime looks for the running one, or back.
void exchange_block(Block& block) {
    fibers.swap(block.fibers);
    warps.swap(block.warps);
    order.swap(block.order);
    std::swap(gs_place.block, block.index);
    std::swap(arrived, block.arrived);
    std::swap(barrier_sum, block.barrier_sum);
    exchange_bytes(__start_gs_shared, block.shared);
    exchange_bytes(dynamic, block.dynamic);
}

bool run_together(const GsLaunch* launch, uint64_t first, uint64_t blocks, size_t residents) {
    const size_t threads = fibers.size();
    std::vector<Block> live(residents);
    for (Block& block : live) {
        block.fibers = fibers;
        block.warps = warps;
        block.order = order;
        block.shared.resize((size_t)(__stop_gs_shared - __start_gs_shared));
        block.dynamic.resize(dynamic_bytes);
        block.index = {0, 0, 0};
        block.arrived = block.barrier_sum = 0;
        block.present = 0;
    }
    uint64_t step = first;
    for (bool busy = true; busy;) {
        busy = false;
        for (size_t slot = 0; slot < live.size(); ++slot) {
            Block& block = live[slot];
            if (!block.present && step == blocks) continue;
            exchange_block(block);
            if (!block.present) {
                place_block(launch, first, step++, blocks);
                prepare_block(launch->poison, threads, slot);
                block.present = threads;
            }
            bool fine;
            do fine = run_round(&block.present, true);
            while (fine && block.present && progressed && next_random() % 4u);
            exchange_block(block);
            if (!fine) return false;
            busy = true;
        }
    }
    return true;
}
