/* W1 and W4a: stochastic Hopf network, Euler-Maruyama, float32, one thread; its FC loss and the gradient by hand.
 *
 *   x_i' = (a_i - beta r_i^2) x_i - w_i y_i + k (sum_j W_ij x_j - s_i x_i) + sigma xi,   s_i = sum_j W_ij
 *   y_i' = (a_i - beta r_i^2) y_i + w_i x_i + k (sum_j W_ij y_j - s_i y_i) + sigma eta
 *
 * A row of states holds x, then y. REGIONS is a multiple of 8, known when this is compiled.
 */
#include <stdlib.h>

#include "fc.h"
#include "noise.h"

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
