// Correct in itself: the tests call it with wrong arguments.
extern "C" __global__ void planted(uint32_t* out, uint32_t count, unsigned long long step) {
    if (threadIdx.x < count) out[threadIdx.x] = (uint32_t)step;
}
