// What a launch asks for: whether a card would take it, and which of its blocks comes when. Part of runtime.cpp.

// Name the block that comes at this step of the launch.
void place_block(const GsLaunch* launch, uint64_t first, uint64_t step, uint64_t blocks) {
    const uint64_t linear = launch->reverse_blocks ? blocks - 1 - (step - first) : step;
    gs_place.block.x = (uint32_t)(linear % launch->grid[0]);
    gs_place.block.y = (uint32_t)(linear / launch->grid[0] % launch->grid[1]);
    gs_place.block.z = (uint32_t)(linear / launch->grid[0] / launch->grid[1]);
}

bool check_launch(const GsLaunch* launch) {
    const uint64_t threads = (uint64_t)launch->block[0] * launch->block[1] * launch->block[2];
    const size_t shared = (size_t)(__stop_gs_shared - __start_gs_shared) + launch->dynamic_bytes;
    for (int axis = 0; axis < 3; ++axis)
        if (!launch->grid[axis] || !launch->block[axis]) return diagnose("bad launch: a size of zero"), false;
    if (threads > kMaxThreads || launch->block[2] > 64)
        return diagnose("bad launch: %llu threads in a block", (unsigned long long)threads), false;
    if (launch->grid[0] > 0x7fffffffu || launch->grid[1] > 65535 || launch->grid[2] > 65535)
        return diagnose("bad launch: grid %u x %u x %u", launch->grid[0], launch->grid[1], launch->grid[2]), false;
    if (launch->dynamic_bytes > kMaxShared) return diagnose("bad launch: %zu bytes of shared memory", shared), false;
    return true;
}
