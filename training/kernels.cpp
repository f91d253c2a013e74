// What training does between matrix products, each in one pass over memory, forwards and backwards, in float or bfloat16.
// Compiled and called by training/kernels.py, which says what the arguments are. Sums over tokens are added up thread by
// thread, in order, so that results do not change from run to run.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct Bf16 {
    uint16_t bits;
};

inline float get(float x) { return x; }

inline float get(Bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float found;
    std::memcpy(&found, &bits, 4);
    return found;
}

inline void put(float& to, float x) { to = x; }

inline void put(Bf16& to, float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    to.bits = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to the nearest, ties to even
}

// e^x: two to the whole part of x / ln 2, times a polynomial of the rest.
inline float exponential(float x) {
    float t = std::min(std::max(x, -87.f), 88.f) * 1.44269504f;
    float whole = std::rint(t), f = t - whole;
    float p = 1.54035304e-4f;
    p = p * f + 1.33335581e-3f;
    p = p * f + 9.61812911e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147181e-1f;
    p = p * f + 1.f;
    int32_t bits = (int32_t(whole) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return p * power;
}

// `total` [size] of what body(item, sums) adds up over the items.
template <typename Body>
void sum_over(long items, long size, float* total, Body body) {
    std::vector<std::vector<float>> sums(omp_get_max_threads());
#pragma omp parallel
    {
        std::vector<float>& own = sums[omp_get_thread_num()];
        own.assign(size, 0.f);
#pragma omp for schedule(static)
        for (long item = 0; item < items; item++) body(item, own.data());
    }
    std::fill(total, total + size, 0.f);
    for (const auto& own : sums)
        for (size_t i = 0; i < own.size(); i++) total[i] += own[i];
}

template <typename T>
void norm(const T* x, const float* weight, T* y, float* scales, long tokens, long width, float epsilon) {
#pragma omp parallel for schedule(static)
    for (long token = 0; token < tokens; token++) {
        const T* in = x + token * width;
        T* out = y + token * width;
        float squares = 0;
        for (long i = 0; i < width; i++) squares += get(in[i]) * get(in[i]);
        float scale = scales[token] = 1 / std::sqrt(squares / width + epsilon);
        for (long i = 0; i < width; i++) put(out[i], get(in[i]) * scale * weight[i]);
    }
}

template <typename T>
void norm_back(const T* x, const float* weight, const float* scales, const T* dy, T* dx, float* dweight, long tokens, long width) {
    sum_over(tokens, width, dweight, [=](long token, float* sums) {
        const T *in = x + token * width, *given = dy + token * width;
        T* out = dx + token * width;
        float scale = scales[token], along = 0;
        for (long i = 0; i < width; i++) {
            float unit = get(in[i]) * scale, d = get(given[i]);
            along += weight[i] * d * unit;
            sums[i] += d * unit;
        }
        along /= width;
        for (long i = 0; i < width; i++) put(out[i], scale * (weight[i] * get(given[i]) - get(in[i]) * scale * along));
    });
}

struct Shape {
    long rows, length, keys;  // the first keys - length keys are of the prefix
    long queries, pairs, dim;  // heads of the query, of key and of value
};

template <typename T>
void turn(const T* heads, const T* bias, const float* cos, const float* sin, T* query, T* key, T* value, Shape s) {
    long half = s.dim / 2, all = s.queries + 2 * s.pairs;
#pragma omp parallel for schedule(static)
    for (long token = 0; token < s.rows * s.length; token++) {
        long row = token / s.length, i = token % s.length, place = s.keys - s.length + i;
        const float *c = cos + i * half, *n = sin + i * half;
        for (long head = 0; head < all; head++) {
            const T *in = heads + (token * all + head) * s.dim, *b = bias + head * s.dim;
            if (head >= s.queries + s.pairs) {
                T* out = value + ((row * s.pairs + head - s.queries - s.pairs) * s.keys + place) * s.dim;
                for (long j = 0; j < s.dim; j++) put(out[j], get(in[j]) + get(b[j]));
                continue;
            }
            T* out = head < s.queries ? query + ((row * s.queries + head) * s.length + i) * s.dim
                                      : key + ((row * s.pairs + head - s.queries) * s.keys + place) * s.dim;
            for (long j = 0; j < half; j++) {
                float first = get(in[j]) + get(b[j]), second = get(in[j + half]) + get(b[j + half]);
                put(out[j], first * c[j] - second * n[j]);
                put(out[j + half], second * c[j] + first * n[j]);
            }
        }
    }
}

template <typename T>
void turn_back(const T* dquery, const T* dkey, const T* dvalue, const float* cos, const float* sin, T* dheads, float* dbias, Shape s) {
    long half = s.dim / 2, all = s.queries + 2 * s.pairs;
    sum_over(s.rows * s.length, all * s.dim, dbias, [=](long token, float* sums) {
        long row = token / s.length, i = token % s.length, place = s.keys - s.length + i;
        const float *c = cos + i * half, *n = sin + i * half;
        for (long head = 0; head < all; head++) {
            T* out = dheads + (token * all + head) * s.dim;
            float* sum = sums + head * s.dim;
            if (head >= s.queries + s.pairs) {
                const T* in = dvalue + ((row * s.pairs + head - s.queries - s.pairs) * s.keys + place) * s.dim;
                for (long j = 0; j < s.dim; j++) {
                    out[j] = in[j];
                    sum[j] += get(in[j]);
                }
                continue;
            }
            const T* in = head < s.queries ? dquery + ((row * s.queries + head) * s.length + i) * s.dim
                                           : dkey + ((row * s.pairs + head - s.queries) * s.keys + place) * s.dim;
            for (long j = 0; j < half; j++) {
                float first = get(in[j]) * c[j] + get(in[j + half]) * n[j];
                float second = get(in[j + half]) * c[j] - get(in[j]) * n[j];
                put(out[j], first);
                put(out[j + half], second);
                sum[j] += first;
                sum[j + half] += second;
            }
        }
    });
}

template <typename T>
void soften(T* scores, const float* sinks, float* rest, Shape s, long window) {
    float scale = 1 / std::sqrt(float(s.dim));
#pragma omp parallel
    {
        std::vector<float> buffer(s.keys);
        float* weights = buffer.data();
#pragma omp for schedule(static)
        for (long item = 0; item < s.rows * s.queries * s.length; item++) {
            long place = s.keys - s.length + item % s.length;
            long first = std::max(0L, place - window + 1), end = place + 1;
            float sink = sinks[item / s.length % s.queries], highest = sink, total = 0;
            T* row = scores + item * s.keys;
            for (long j = first; j < end; j++) highest = std::max(highest, weights[j] = get(row[j]) * scale);
            for (long j = first; j < end; j++) total += weights[j] = exponential(weights[j] - highest);
            float none = exponential(sink - highest), share = 1 / (total + none);
            for (long j = 0; j < first; j++) put(row[j], 0.f);
            for (long j = first; j < end; j++) put(row[j], weights[j] * share);
            for (long j = end; j < s.keys; j++) put(row[j], 0.f);
            rest[item] = none * share;
        }
    }
}

template <typename T>
void soften_back(T* dscores, const T* weights, const float* rest, float* dsinks, Shape s, long window) {
    float scale = 1 / std::sqrt(float(s.dim));
    sum_over(s.rows * s.queries * s.length, s.queries, dsinks, [=](long item, float* sums) {
        long place = s.keys - s.length + item % s.length;
        long first = std::max(0L, place - window + 1), end = place + 1;
        T* row = dscores + item * s.keys;
        const T* weight = weights + item * s.keys;
        float mean = 0;
        for (long j = first; j < end; j++) mean += get(weight[j]) * get(row[j]);
        for (long j = 0; j < first; j++) put(row[j], 0.f);
        for (long j = first; j < end; j++) put(row[j], get(weight[j]) * (get(row[j]) - mean) * scale);
        for (long j = end; j < s.keys; j++) put(row[j], 0.f);
        sums[item / s.length % s.queries] -= rest[item] * mean;
    });
}

constexpr float ALPHA = 1.702f;

template <typename T>
void gate(const T* both, const T* bias, const float* shares, T* inner, long tokens, long experts, long width, float limit) {
#pragma omp parallel for schedule(static)
    for (long item = 0; item < tokens * experts; item++) {
        long token = item / experts, from = item % experts * width, up_from = experts * width + from;
        const T *gates = both + token * 2 * experts * width + from, *ups = gates + experts * width;
        T* out = inner + item * width;
        float share = shares[item];
        if (share == 0) {
            for (long i = 0; i < width; i++) put(out[i], 0.f);
            continue;
        }
        for (long i = 0; i < width; i++) {
            float gate = std::min(get(gates[i]) + get(bias[from + i]), limit);
            float up = std::min(std::max(get(ups[i]) + get(bias[up_from + i]), -limit), limit);
            put(out[i], share * (up + 1) * gate / (1 + exponential(-ALPHA * gate)));
        }
    }
}

template <typename T>
void gate_back(const T* both, const T* bias, const float* shares, const T* dinner, T* dboth, float* dshares, float* dbias,
               long tokens, long experts, long width, float limit) {
    sum_over(tokens, 2 * experts * width, dbias, [=](long token, float* sums) {
        for (long expert = 0; expert < experts; expert++) {
            long from = expert * width, up_from = (experts + expert) * width, start = token * 2 * experts * width;
            const T *gates = both + start + from, *ups = both + start + up_from;
            const T* given = dinner + (token * experts + expert) * width;
            T *dgates = dboth + start + from, *dups = dboth + start + up_from;
            float share = shares[token * experts + expert], dshare = 0;
            if (share == 0) {
                for (long i = 0; i < width; i++) put(dgates[i], 0.f), put(dups[i], 0.f);
                dshares[token * experts + expert] = 0;
                continue;
            }
            for (long i = 0; i < width; i++) {
                float raw_gate = get(gates[i]) + get(bias[from + i]), raw_up = get(ups[i]) + get(bias[up_from + i]);
                float gate = std::min(raw_gate, limit), up = std::min(std::max(raw_up, -limit), limit);
                float open = 1 / (1 + exponential(-ALPHA * gate)), d = get(given[i]);
                dshare += d * (up + 1) * gate * open;
                float dgate = raw_gate <= limit ? share * d * (up + 1) * open * (1 + ALPHA * gate * (1 - open)) : 0.f;
                float dup = std::fabs(raw_up) <= limit ? share * d * gate * open : 0.f;
                put(dgates[i], dgate);
                put(dups[i], dup);
                sums[from + i] += dgate;
                sums[up_from + i] += dup;
            }
            dshares[token * experts + expert] = dshare;
        }
    });
}

template <typename T>
void lose(T* logits, const int64_t* targets, float* losses, long tokens, long classes, float multiplicity) {
#pragma omp parallel
    {
        std::vector<float> buffer(classes);
        float* weights = buffer.data();
#pragma omp for schedule(static)
        for (long token = 0; token < tokens; token++) {
            T* row = logits + token * classes;
            for (long i = 0; i < classes; i++) weights[i] = get(row[i]);
            weights[classes - 1] += multiplicity;
            float highest = weights[0], target = weights[targets[token]], total = 0;
            for (long i = 0; i < classes; i++) highest = std::max(highest, weights[i]);
            for (long i = 0; i < classes; i++) total += weights[i] = exponential(weights[i] - highest);
            losses[token] = std::log(total) + highest - target;
            weights[targets[token]] -= total;
            for (long i = 0; i < classes; i++) put(row[i], weights[i] / total);
        }
    }
}

}  // namespace

#define FOR(T, NAME)                                                                                                          \
    void norm_##NAME(const T* x, const float* w, T* y, float* s, long n, long h, float e) { norm(x, w, y, s, n, h, e); }      \
    void norm_back_##NAME(const T* x, const float* w, const float* s, const T* dy, T* dx, float* dw, long n, long h) {        \
        norm_back(x, w, s, dy, dx, dw, n, h);                                                                                 \
    }                                                                                                                         \
    void turn_##NAME(const T* x, const T* b, const float* c, const float* n, T* q, T* k, T* v, Shape s) {                     \
        turn(x, b, c, n, q, k, v, s);                                                                                         \
    }                                                                                                                         \
    void turn_back_##NAME(const T* q, const T* k, const T* v, const float* c, const float* n, T* dx, float* db, Shape s) {    \
        turn_back(q, k, v, c, n, dx, db, s);                                                                                  \
    }                                                                                                                         \
    void soften_##NAME(T* x, const float* sinks, float* rest, Shape s, long window) { soften(x, sinks, rest, s, window); }    \
    void soften_back_##NAME(T* dx, const T* p, const float* rest, float* dsinks, Shape s, long window) {                      \
        soften_back(dx, p, rest, dsinks, s, window);                                                                          \
    }                                                                                                                         \
    void gate_##NAME(const T* x, const T* b, const float* w, T* y, long n, long e, long i, float limit) {                     \
        gate(x, b, w, y, n, e, i, limit);                                                                                     \
    }                                                                                                                         \
    void gate_back_##NAME(const T* x, const T* b, const float* w, const T* dy, T* dx, float* dw, float* db, long n, long e,   \
                          long i, float limit) {                                                                              \
        gate_back(x, b, w, dy, dx, dw, db, n, e, i, limit);                                                                   \
    }                                                                                                                         \
    void lose_##NAME(T* x, const int64_t* t, float* l, long n, long c, float m) { lose(x, t, l, n, c, m); }

extern "C" {
FOR(float, float32)
FOR(Bf16, bfloat16)
}
