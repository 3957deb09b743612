// Planted: lane 0 shifts by 32, which a host and a device answer differently.
extern "C" __global__ void planted(uint32_t* out) {
    out[threadIdx.x] = 0xffffffffu >> (32u - threadIdx.x);
}
