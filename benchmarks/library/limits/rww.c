/* W3 and W4b: reduced Wong-Wang network (Deco et al. 2013) and Balloon-Windkessel BOLD, float32, one thread; the FC
 * loss of BOLD and its gradient by hand. Time in s.
 *
 *   S_i' = -S_i / tau + (1 - S_i) gamma H(x_i) + sigma xi,   x_i = J (w_i S_i + k sum_j W_ij S_j) + I
 *   H(x) = y / (1 - exp(-d y)),   y = a x - b                                                        (Euler-Maruyama)
 *
 *   s' = z - kappa s - g (f - 1),  f' = s,  t v' = f - v^(1/alpha),  t q' = f E(f) / rho - q v^(1/alpha - 1)
 *   bold = V0 (k1 (1 - q) + k2 (1 - q / v) + k3 (1 - v)),  z the mean of S over SUB steps           (explicit midpoint)
 *
 * REGIONS is a multiple of 16, known when this is compiled.
 */
#include "fc.h"
#include "noise.h"

#define SUB 10 /* steps of the network to one of the vessels, and steps whose noise is drawn at once */

struct rww {
    float dt, k, sigma, a, b, d, gamma, tau, j, i;
    const float *w;
};

struct vessels {
    float kappa, g, t, alpha, rho, v0, k1, k2, k3;
};

struct network { /* prepared once a run */
    _Alignas(64) float forward[N][N], backward[N][N]; /* [j][i] and [i][j] of W_ij */
};

/* Rows: s, f - 1, v - 1, q - 1 of all regions: differences from rest keep their digits in float32 */
typedef float blood[4][N];

static void prepare(struct network *net, const float *weights)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) net->forward[j][i] = net->backward[i][j] = weights[i * N + j];
}

/* The two words of a counter serve two regions, half of N apart. */
static inline void draw(enum noise_kind kind, uint32_t seed, uint32_t step, int n, float scale, float *z)
{
    float x[SUB * N / 2], y[SUB * N / 2];
    noise_fill(kind, seed, step * (N / 2), 0, 1, n * (N / 2), scale, x, y);
    for (int s = 0; s < n; s++) {
        memcpy(z + s * N, x + s * (N / 2), sizeof(float[N / 2]));
        memcpy(z + s * N + N / 2, y + s * (N / 2), sizeof(float[N / 2]));
    }
}

/* The draws that a run uses: (step, region), unit variance */
void rww_noise(int kind, uint32_t seed, int n_steps, float *out)
{
    for (int s = 0; s < n_steps; s++) draw(kind, seed, (uint32_t)s, 1, 1.0f, out + s * N);
}

/* SUB steps: rows[1] to rows[SUB] from rows[0], and their mean. Where `slope` is given it gets, for each step,
 * d S_new / d (w S + k sum W S) and, in `decay`, d S_new / d S at a fixed input. */
static inline void roll(const struct rww *m, const struct network *net, enum noise_kind kind, uint32_t seed,
                        uint32_t first, float (*restrict rows)[N], float *restrict mean, float (*restrict slope)[N],
                        float (*restrict decay)[N])
{
    _Alignas(64) float noise[SUB * N], c[N];
    const float dt = m->dt, dg = m->dt * m->gamma, leak = 1 - m->dt / m->tau, d = m->d;
    const float aj = m->a * m->j, offset = m->a * m->i - m->b;
    draw(kind, seed, first, SUB, m->sigma * sqrtf(dt), noise);
    for (int i = 0; i < N; i++) mean[i] = 0;
    for (int step = 0; step < SUB; step++) {
        const float *restrict s = rows[step], *restrict z = noise + step * N;
        float *restrict s_new = rows[step + 1], *restrict sl = slope ? slope[step] : 0,
                        *restrict de = slope ? decay[step] : 0;
        matvec_1(net->forward, s, c);
        if (slope) {
#pragma omp simd
            for (int i = 0; i < N; i++) {
                float y = aj * (m->w[i] * s[i] + m->k * c[i]) + offset, u = d * y, e = expf(-u);
                float small = fabsf(u) < 1e-2f, q = 1 / (1 - e + small);
                float h = small ? (1 + 0.5f * u + u * u * (1 / 12.0f)) / d : y * q;
                float h1 = small ? 0.5f + u * (1 / 6.0f) : (1 - d * h * e) * q;
                sl[i] = dg * (1 - s[i]) * h1 * aj;
                de[i] = leak - dg * h;
                s_new[i] = leak * s[i] + dg * (1 - s[i]) * h + z[i];
                mean[i] += s_new[i] * (1.0f / SUB);
            }
        } else {
#pragma omp simd
            for (int i = 0; i < N; i++) {
                float y = aj * (m->w[i] * s[i] + m->k * c[i]) + offset, u = d * y, e = expf(-u);
                float small = fabsf(u) < 1e-2f;
                float h = small ? (1 + 0.5f * u + u * u * (1 / 12.0f)) / d : y / (1 - e + small);
                s_new[i] = leak * s[i] + dg * (1 - s[i]) * h + z[i];
                mean[i] += s_new[i] * (1.0f / SUB);
            }
        }
    }
}

/* Derivative of s, f, v, q (the last three less 1); the parts that its Jacobian needs too */
struct flow {
    float power, ratio; /* v^(1/alpha) / v and (1 - rho)^(1 / f) */
};

static inline struct flow slopes(const struct vessels *h, float s, float f, float v, float q, float z, float *ds,
                                 float *df, float *dv, float *dq)
{
    struct flow p = {expf(logf(1 + v) * (1 / h->alpha - 1)), expf(logf(1 - h->rho) / (1 + f))};
    *ds = z - h->kappa * s - h->g * f;
    *df = s;
    *dv = (1 + f - p.power * (1 + v)) / h->t;
    *dq = ((1 + f) * (1 - p.ratio) / h->rho - (1 + q) * p.power) / h->t;
    return p;
}

/* (a, b, c, e) becomes its product with the Jacobian, scaled */
static inline void transposed(const struct vessels *h, struct flow p, float f, float v, float q, float scale,
                              float *a, float *b, float *c, float *e)
{
    float more = 1 / h->alpha, inflow = (1 - p.ratio + p.ratio * logf(1 - h->rho) / (1 + f)) / h->rho;
    float to_s = *b - h->kappa * *a, to_f = -h->g * *a + (*c + inflow * *e) / h->t;
    float to_v = -(more * *c + (1 + q) * (more - 1) / (1 + v) * *e) * p.power / h->t, to_q = -p.power * *e / h->t;
    *a = scale * to_s, *b = scale * to_f, *c = scale * to_v, *e = scale * to_q;
}

static inline void pump(const struct vessels *h, float dt, const float *restrict z, const float (*y)[N], float (*out)[N])
{
#pragma omp simd
    for (int i = 0; i < N; i++) {
        float ds, df, dv, dq, s = y[0][i], f = y[1][i], v = y[2][i], q = y[3][i], half = 0.5f * dt;
        slopes(h, s, f, v, q, z[i], &ds, &df, &dv, &dq);
        slopes(h, s + half * ds, f + half * df, v + half * dv, q + half * dq, z[i], &ds, &df, &dv, &dq);
        out[0][i] = s + dt * ds, out[1][i] = f + dt * df, out[2][i] = v + dt * dv, out[3][i] = q + dt * dq;
    }
}

/* lambda, the slope in the state after `pump`, becomes that in the state before; gz gets that in z */
static inline void pump_back(const struct vessels *h, float dt, const float *restrict z, const float (*restrict y)[N],
                             float (*restrict lambda)[N], float *restrict gz)
{
#pragma omp simd
    for (int i = 0; i < N; i++) {
        float ds, df, dv, dq, s = y[0][i], f = y[1][i], v = y[2][i], q = y[3][i], half = 0.5f * dt;
        float a = lambda[0][i], b = lambda[1][i], c = lambda[2][i], e = lambda[3][i], first = a;
        struct flow here = slopes(h, s, f, v, q, z[i], &ds, &df, &dv, &dq);
        float f1 = f + half * df, v1 = v + half * dv, q1 = q + half * dq;
        struct flow middle = slopes(h, s + half * ds, f1, v1, q1, z[i], &ds, &df, &dv, &dq);
        transposed(h, middle, f1, v1, q1, dt, &a, &b, &c, &e);
        gz[i] = dt * first + half * a;
        lambda[0][i] += a, lambda[1][i] += b, lambda[2][i] += c, lambda[3][i] += e;
        transposed(h, here, f, v, q, half, &a, &b, &c, &e);
        lambda[0][i] += a, lambda[1][i] += b, lambda[2][i] += c, lambda[3][i] += e;
    }
}

static inline void signal_of(const struct vessels *h, const float (*restrict y)[N], float *restrict bold)
{
    for (int i = 0; i < N; i++) {
        float v = y[2][i], q = y[3][i];
        bold[i] = -h->v0 * (h->k1 * q + h->k2 * (q - v) / (1 + v) + h->k3 * v);
    }
}

/* W3: BOLD after every `keep` steps (a multiple of SUB), (n_steps / keep, region), from rest and S = start */
void rww_run(struct rww m, struct vessels h, const float *weights, float start, int kind, uint32_t seed, int n_steps,
             int keep, float *bold)
{
    struct network net;
    _Alignas(64) float rows[SUB + 1][N], z[N];
    _Alignas(64) blood y;
    prepare(&net, weights);
    for (int i = 0; i < N; i++) rows[0][i] = start, y[0][i] = y[1][i] = y[2][i] = y[3][i] = 0;
    for (int step = 0; step < n_steps; step += SUB) {
        roll(&m, &net, kind, seed, (uint32_t)step, rows, z, 0, 0);
        memcpy(rows[0], rows[SUB], sizeof rows[0]);
        pump(&h, SUB * m.dt, z, (const float(*)[N])y, y);
        if ((step + SUB) % keep == 0)
            signal_of(&h, (const float(*)[N])y, bold + (size_t)((step + SUB) / keep - 1) * N);
    }
}

/* W4b: the loss, and its gradient in k and in every w (grad[0], grad[1] ...).
 *
 * States are kept at the start of every sampling interval only; everything between is made again, noise included, on
 * the way back.
 */
double rww_gradient(struct rww m, struct vessels h, const float *weights, float start, int kind, uint32_t seed,
                    int n_steps, int keep, const float *target, float *grad)
{
    struct network net;
    const int samples = n_steps / keep, subs = keep / SUB;
    const float dt = SUB * m.dt;
    float(*rows)[N] = aligned_alloc(64, sizeof(float[keep + 16][N]));
    float(*slope)[N] = aligned_alloc(64, sizeof(float[keep + 16][N]));
    float(*decay)[N] = aligned_alloc(64, sizeof(float[keep + 16][N]));
    float(*z)[N] = aligned_alloc(64, sizeof(float[subs + 16][N]));
    float(*starts)[N] = aligned_alloc(64, sizeof(float[samples + 16][N]));
    float(*bold)[N] = aligned_alloc(64, sizeof(float[samples + 16][N]));
    blood *y = aligned_alloc(64, sizeof(blood[subs + 16])), *blood_starts = aligned_alloc(64, sizeof(blood[samples + 16]));
    prepare(&net, weights);
    for (int i = 0; i < N; i++) rows[0][i] = start;
    memset(y[0], 0, sizeof y[0]);
    for (int sample = 0; sample < samples; sample++) {
        memcpy(starts[sample], rows[0], sizeof rows[0]);
        memcpy(blood_starts[sample], y[0], sizeof y[0]);
        for (int s = 0; s < subs; s++) {
            roll(&m, &net, kind, seed, (uint32_t)(sample * keep + s * SUB), rows, z[0], 0, 0);
            memcpy(rows[0], rows[SUB], sizeof rows[0]);
            pump(&h, dt, z[0], (const float(*)[N])y[0], y[0]);
        }
        signal_of(&h, (const float(*)[N])y[0], bold[sample]);
    }
    double loss = fc_loss(samples, bold, target); /* bold becomes the slope in it */

    _Alignas(64) float l[N] = {0}, gx[N], back[N], gz[N], in_one_w[N], in_one_k[N];
    _Alignas(64) blood lambda = {{0}};
    double in_k = 0, in_w[N] = {0};
    for (int sample = samples - 1; sample >= 0; sample--) {
        memcpy(rows[0], starts[sample], sizeof rows[0]);
        memcpy(y[0], blood_starts[sample], sizeof y[0]);
        for (int s = 0; s < subs; s++) {
            roll(&m, &net, kind, seed, (uint32_t)(sample * keep + s * SUB), rows + s * SUB, z[s], slope + s * SUB,
                 decay + s * SUB);
            pump(&h, dt, z[s], (const float(*)[N])y[s], y[s + 1]);
        }
        for (int i = 0; i < N; i++) {
            float v = y[subs][2][i], q = y[subs][3][i], g = h.v0 * bold[sample][i];
            lambda[2][i] += g * (h.k2 * (1 + q) / ((1 + v) * (1 + v)) - h.k3);
            lambda[3][i] -= g * (h.k1 + h.k2 / (1 + v));
            in_one_w[i] = in_one_k[i] = 0;
        }
        for (int s = subs - 1; s >= 0; s--) {
            pump_back(&h, dt, z[s], (const float(*)[N])y[s], lambda, gz);
            for (int step = s * SUB + SUB - 1; step >= s * SUB; step--) {
                const float *restrict x = rows[step], *restrict sl = slope[step], *restrict de = decay[step];
#pragma omp simd
                for (int i = 0; i < N; i++) {
                    l[i] += gz[i] * (1.0f / SUB);
                    gx[i] = l[i] * sl[i];
                }
                matvec_1((const float(*)[N])net.backward, gx, back);
#pragma omp simd
                for (int i = 0; i < N; i++) {
                    in_one_w[i] += gx[i] * x[i];
                    in_one_k[i] += back[i] * x[i];
                    l[i] = l[i] * de[i] + gx[i] * m.w[i] + m.k * back[i];
                }
            }
        }
        for (int i = 0; i < N; i++) in_w[i] += in_one_w[i], in_k += in_one_k[i]; /* sums of an interval in float */
    }
    grad[0] = (float)in_k;
    for (int i = 0; i < N; i++) grad[1 + i] = (float)in_w[i];
    free(rows), free(slope), free(decay), free(z), free(starts), free(bold), free(y), free(blood_starts);
    return loss;
}
