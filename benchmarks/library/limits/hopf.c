/* W1 and W4a: stochastic Hopf network, Euler-Maruyama, float32, one thread; its FC loss and the gradient by hand.
 *
 *   x_i' = (a_i - beta r_i^2) x_i - w_i y_i + k (sum_j W_ij x_j - s_i x_i) + sigma xi,   s_i = sum_j W_ij
 *   y_i' = (a_i - beta r_i^2) y_i + w_i x_i + k (sum_j W_ij y_j - s_i y_i) + sigma eta
 *
 * A row of states holds x, then y. REGIONS is a multiple of 8, known when this is compiled.
 */
#include <stdlib.h>

#include "noise.h"

#define N REGIONS
#define CHUNK 10 /* steps whose noise is drawn at once: it stays in the first cache */

struct hopf {
    float dt, k, beta, sigma;
    const float *a, *w;
};

struct network { /* prepared once a run */
    _Alignas(64) float forward[N][N], backward[N][N]; /* [j][i] and [i][j] of W_ij */
    float strength[N], rate[N];          /* s and a - k s */
};

static void prepare(struct network *net, const struct hopf *m, const float *weights)
{
    for (int i = 0; i < N; i++) {
        net->strength[i] = 0;
        for (int j = 0; j < N; j++) {
            net->forward[j][i] = net->backward[i][j] = weights[i * N + j];
            net->strength[i] += weights[i * N + j];
        }
        net->rate[i] = m->a[i] - m->k * net->strength[i];
    }
}

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

/* rows[1] to rows[n] from rows[0]; `first` is the number of the step */
static void roll(const struct hopf *m, const struct network *net, enum noise_kind kind, uint32_t seed, uint32_t first,
                 int n, float (*restrict rows)[2 * N])
{
    _Alignas(64) float nx[CHUNK * N], ny[CHUNK * N], cx[N], cy[N];
    float dt = m->dt, kdt = m->k * m->dt, beta = m->beta;
    for (int begin = 0; begin < n; begin += CHUNK) {
        int steps = n - begin < CHUNK ? n - begin : CHUNK;
        noise_fill(kind, seed, (first + begin) * N, 0, 1, steps * N, m->sigma * sqrtf(dt), nx, ny);
        for (int s = 0; s < steps; s++) {
            const float *restrict x = rows[begin + s], *restrict y = x + N;
            float *restrict x_new = rows[begin + s + 1], *restrict y_new = x_new + N;
            matvec(net->forward, x, y, cx, cy);
#pragma omp simd
            for (int i = 0; i < N; i++) {
                float grow = 1 + dt * (net->rate[i] - beta * (x[i] * x[i] + y[i] * y[i])), turn = dt * m->w[i];
                x_new[i] = grow * x[i] - turn * y[i] + kdt * cx[i] + nx[s * N + i];
                y_new[i] = grow * y[i] + turn * x[i] + kdt * cy[i] + ny[s * N + i];
            }
        }
    }
}

/* The draws that a run uses: (step, 2, region), unit variance */
void hopf_noise(int kind, uint32_t seed, uint32_t set, int n_steps, float *out)
{
    for (int s = 0; s < n_steps; s++)
        noise_fill(kind, seed, (uint32_t)s * N, set, 1, N, 1.0f, out + 2 * s * N, out + (2 * s + 1) * N);
}

/* W1: x after every `keep` steps, (n_steps / keep, region) */
void hopf_run(struct hopf m, const float *weights, const float *x0, const float *y0, int kind, uint32_t seed,
              int n_steps, int keep, float *kept)
{
    struct network net;
    float(*rows)[2 * N] = aligned_alloc(64, sizeof(float[keep + 1][2 * N]) / 64 * 64 + 64);
    prepare(&net, &m, weights);
    memcpy(rows[0], x0, sizeof(float[N]));
    memcpy(rows[0] + N, y0, sizeof(float[N]));
    for (int sample = 0; sample < n_steps / keep; sample++) {
        roll(&m, &net, kind, seed, (uint32_t)(sample * keep), keep, rows);
        memcpy(kept + (size_t)sample * N, rows[keep], sizeof(float[N]));
        memcpy(rows[0], rows[keep], sizeof rows[0]);
    }
    free(rows);
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

/* W4a: the loss, and its gradient in k and in every a (grad[0], grad[1] ...).
 *
 * States are kept at the start of every `block` steps only and made again, noise included, on the way back; a block
 * of n_steps keeps all. `block` is a multiple of `keep` and divides n_steps.
 */
double hopf_gradient(struct hopf m, const float *weights, const float *x0, const float *y0, int kind, uint32_t seed,
                     int n_steps, int keep, int block, const float *target, float *grad)
{
    struct network net;
    int blocks = n_steps / block, samples = n_steps / keep;
    float(*rows)[2 * N] = aligned_alloc(64, sizeof(float[block + 1][2 * N]) / 64 * 64 + 64);
    float(*starts)[2 * N] = aligned_alloc(64, sizeof(float[blocks][2 * N]) / 64 * 64 + 64);
    float(*kept)[N] = aligned_alloc(64, sizeof(float[samples][N]) / 64 * 64 + 64);
    prepare(&net, &m, weights);
    memcpy(rows[0], x0, sizeof(float[N]));
    memcpy(rows[0] + N, y0, sizeof(float[N]));
    for (int b = 0; b < blocks; b++) {
        if (b) memcpy(rows[0], rows[block], sizeof rows[0]);
        memcpy(starts[b], rows[0], sizeof rows[0]);
        roll(&m, &net, kind, seed, (uint32_t)(b * block), block, rows);
        for (int s = keep; s <= block; s += keep) memcpy(kept[(b * block + s) / keep - 1], rows[s], sizeof kept[0]);
    }
    double loss = fc_loss(samples, kept, target);

    _Alignas(64) float lx[N] = {0}, ly[N] = {0}, gx[N], gy[N], grow[N] = {0}, coupled[N] = {0};
    double in_k = 0, in_a[N] = {0};
    for (int b = blocks - 1; b >= 0; b--) {
        if (b < blocks - 1) { /* the last block is still there */
            memcpy(rows[0], starts[b], sizeof rows[0]);
            roll(&m, &net, kind, seed, (uint32_t)(b * block), block, rows);
        }
        for (int s = block - 1; s >= 0; s--) {
            const float *restrict x = rows[s], *restrict y = x + N;
            if ((s + 1) % keep == 0)
                for (int i = 0; i < N; i++) lx[i] += kept[(b * block + s + 1) / keep - 1][i];
            matvec(net.backward, lx, ly, gx, gy);
#pragma omp simd
            for (int i = 0; i < N; i++) {
                float xx = x[i] * x[i], yy = y[i] * y[i], xy = 2 * m.beta * x[i] * y[i];
                float common = net.rate[i] - m.beta * (xx + yy), p = lx[i], q = ly[i];
                grow[i] += p * x[i] + q * y[i];
                coupled[i] += gx[i] * x[i] + gy[i] * y[i];
                lx[i] += m.dt * (p * (common - 2 * m.beta * xx) + q * (m.w[i] - xy) + m.k * gx[i]);
                ly[i] += m.dt * (q * (common - 2 * m.beta * yy) - p * (m.w[i] + xy) + m.k * gy[i]);
            }
        }
        for (int i = 0; i < N; i++) { /* sums of a block in float, of blocks in double */
            in_a[i] += m.dt * grow[i];
            in_k += m.dt * (coupled[i] - net.strength[i] * grow[i]);
            grow[i] = coupled[i] = 0;
        }
    }
    grad[0] = (float)in_k;
    for (int i = 0; i < N; i++) grad[1 + i] = (float)in_a[i];
    free(rows), free(starts), free(kept);
    return loss;
}
