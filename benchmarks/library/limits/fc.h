/* What the gradients share: products with a matrix, and the FC loss with its slope in the samples. */
#ifndef FC_H
#define FC_H

#include <math.h>
#include <stdlib.h>

#define N REGIONS

/* cx[i] = sum_j m[j][i] x[j], and the same of y */
static inline void matvec(const float (*restrict m)[N], const float *restrict x, const float *restrict y,
                          float *restrict cx, float *restrict cy)
{
    for (int i = 0; i < N; i++) cx[i] = cy[i] = 0;
    for (int j = 0; j < N; j += 8) { /* eight rows at once: the sums are loaded and stored once for them */
#pragma omp simd
        for (int i = 0; i < N; i++) {
            float s = cx[i], t = cy[i];
#pragma GCC unroll 8
            for (int q = 0; q < 8; q++) s += m[j + q][i] * x[j + q], t += m[j + q][i] * y[j + q];
            cx[i] = s, cy[i] = t;
        }
    }
}

/* cx[i] = sum_j m[j][i] x[j] */
static inline void matvec_1(const float (*restrict m)[N], const float *restrict x, float *restrict cx)
{
    for (int i = 0; i < N; i++) cx[i] = 0;
    for (int j = 0; j < N; j += 8) {
#pragma omp simd
        for (int i = 0; i < N; i++) {
            float s = cx[i];
#pragma GCC unroll 8
            for (int q = 0; q < 8; q++) s += m[j + q][i] * x[j + q];
            cx[i] = s;
        }
    }
}

/* Mean squared difference of the correlations of all pairs from `target`; x becomes the gradient in x. */
static double fc_loss(int samples, float (*restrict x)[N], const float *restrict target)
{
    _Alignas(64) float fc[N][N] = {{0}};
    float scale[N], mean[N], inner[N] = {0};
    double sum[N] = {0}, square[N] = {0}, loss = 0;
    const float pairs = N * (N - 1) / 2;
    for (int s = 0; s < samples; s++)
        for (int i = 0; i < N; i++) sum[i] += x[s][i];
    for (int i = 0; i < N; i++) mean[i] = (float)(sum[i] / samples);
    for (int s = 0; s < samples; s++)
        for (int i = 0; i < N; i++) x[s][i] -= mean[i], square[i] += x[s][i] * x[s][i];
    for (int i = 0; i < N; i++) scale[i] = (float)(1 / sqrt(square[i]));
    for (int s = 0; s < samples; s++)
        for (int i = 0; i < N; i++) x[s][i] *= scale[i];
    int s = 0;
    for (; s + 8 <= samples; s += 8)
        for (int i = 0; i < N; i++)
#pragma omp simd
            for (int j = 0; j < N; j++) {
                float c = fc[i][j];
#pragma GCC unroll 8
                for (int q = 0; q < 8; q++) c += x[s + q][i] * x[s + q][j];
                fc[i][j] = c;
            }
    for (; s < samples; s++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) fc[i][j] += x[s][i] * x[s][j];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            float off = i == j ? 0 : fc[i][j] - target[i * N + j];
            loss += 0.5 * off * off / pairs;
            fc[i][j] = 2 * off / pairs; /* d loss / d z = z fc, z the standardised samples */
        }
    float(*g)[N] = aligned_alloc(64, sizeof(float[samples + 1][N]) / 64 * 64 + 64);
    for (int t = 0; t < samples; t += 2) { /* two samples share a product */
        const float *second = t + 1 < samples ? x[t + 1] : x[t];
        matvec((const float(*)[N])fc, x[t], second, g[t], g[t + 1]);
    }
    for (int t = 0; t < samples; t++)
        for (int i = 0; i < N; i++) inner[i] += x[t][i] * g[t][i];
    for (int t = 0; t < samples; t++)
        for (int i = 0; i < N; i++) x[t][i] = (g[t][i] - x[t][i] * inner[i]) * scale[i];
    free(g);
    return loss;
}

#endif
