// Planted: the product of two samples is taken in 32 bits.
extern "C" __global__ void planted(int32_t* out) {
    const int32_t sample = out[threadIdx.x];
    out[threadIdx.x] = (sample * sample) >> 14;
}
