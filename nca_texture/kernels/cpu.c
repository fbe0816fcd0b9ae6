/* Steps of the automaton on CPUs: forward, and backward from kept states.
 *
 * cpu.py fills `struct job` and calls grow() or grow_back(); both run all steps in one call, on
 * threads of their own that meet between the phases of a step. Nothing here depends on how many
 * threads there are: a strip of rows is always the same strip, and sums of weights belong to strips.
 */

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { KIND_MLP, KIND_ABS };
enum { TILE = 32, M = 4, MOST_TAPS = 81, LANES = 16 };

/* The same fields, in the same order, as _Job in cpu.py. */
struct job {
  int32_t kind, batch, height, width, channels, lanes, filters, size, radius, parities;
  int32_t hidden, wide; /* hidden units, and rounded up to a multiple of LANES */
  int32_t inputs, inputs_stride, inputs_rows, inputs_lanes, channels_rows;
  int32_t bank; /* numbers in the filters of one parity */
  int32_t always, limit_map, living, hex, strip, groups, threads, steps, first_step, keep;
  float dt, percept_limit, hidden_limit, update_limit, state_limit, threshold;
  const int32_t *rows, *columns;           /* world coordinates [height], [width] */
  const int32_t *near_rows, *near_columns; /* [height or width + 2 radius]; -1 lies beyond zero */
  const int32_t *limit;                    /* a cell fires below it: [1] or [height, width] */
  const uint32_t *seeds;                   /* [batch] */
  const float *coefs;                      /* [parities, filters, size * size, lanes] */
  /* Factors are floats; in bfloat16 two rows of them lie interleaved, [rows / 2, columns, 2]. */
  const void *in_weight, *out_weight;      /* [inputs, wide], abs: lanes for wide; [hidden, lanes] */
  const void *in_back, *out_back;          /* [hidden, inputs_lanes], [channels, wide] */
  const float *in_bias, *out_bias;         /* [wide], [lanes] */
  float *zeros;                            /* [lanes] */
  float *states;                           /* [steps + 1 or 2, batch, height, width, lanes] */
  uint8_t *alive;                          /* [steps or 1, batch, height, width], or NULL */
  float *gradient;                         /* [batch, height, width, lanes], in and out */
  float *local;                            /* [batch, strips, strip + 2 radius, width, lanes] */
  float *sum_in_weight, *sum_in_bias, *sum_out_weight, *sum_out_bias, *sum_coefs; /* [groups, ...] */
};

struct scratch { /* of one thread */
  uint32_t *pairs;
  float *percepts, *hidden, *update, *d_percepts, *d_hidden, *d_update, *raw, *nowhere;
  int32_t *columns, *ys, *xs;
  uint32_t *hashes;
  long count;
};

struct sums {
  float *in_weight, *in_bias, *out_weight, *out_bias, *coefs;
};

/* First word of pcg4d (Jarzynski and Olano, JCGT 2020). */
static inline uint32_t hash(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  x = x * 1664525u + 1013904223u;
  y = y * 1664525u + 1013904223u;
  z = z * 1664525u + 1013904223u;
  w = w * 1664525u + 1013904223u;
  x += y * w, y += z * x, z += x * y, w += y * z;
  x ^= x >> 16, y ^= y >> 16, w ^= w >> 16;
  return x + y * w;
}

#define UNROLL _Pragma("GCC unroll 8")
#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(x) JOIN(x, SET)

#if defined(__x86_64__)

#define SET avx512
#define VL 16
#define NV 6
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma,prefer-vector-width=512")
#endif
#include "cpu_step.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef SET
#undef VL
#undef NV

#define SET avx512bf16
#define VL 16
#define NV 6
#define BF16
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma,prefer-vector-width=512")
#endif
#include "cpu_step.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef SET
#undef VL
#undef NV
#undef BF16

#define SET avx2
#define VL 8
#define NV 3
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "cpu_step.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef SET
#undef VL
#undef NV

#define SET plain
#define VL 4
#define NV 3
#include "cpu_step.h"

#else /* 32 registers of four floats, as on 64-bit ARM */

#define SET plain
#define VL 4
#define NV 6
#include "cpu_step.h"

#endif

typedef void forward_strip(const struct job *, struct scratch *, long, uint32_t, const float *,
                           float *, long, long);
typedef void backward_strip(const struct job *, struct scratch *, struct sums *, long, uint32_t,
                            const float *, const uint8_t *, const float *, float *, long, long);

static const struct set {
  const char *name;
  forward_strip *forward;
  backward_strip *backward;
} SETS[] = {
#if defined(__x86_64__)
    {"avx512", forward_strip_avx512, backward_strip_avx512},
    {"avx2", forward_strip_avx2, backward_strip_avx2},
#endif
    {"plain", forward_strip_plain, backward_strip_plain},
#if defined(__x86_64__)
    {"avx512bf16", forward_strip_avx512bf16, backward_strip_avx512bf16}, /* only by name */
#endif
};

static int has(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!strcmp(name, "avx512bf16")) return has("avx512") && __builtin_cpu_supports("avx512bf16");
  if (!strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return !strcmp(name, "plain");
}

/* The instruction set called `name`, or the best one for NULL; NULL when this machine lacks it. */
static const struct set *find_set(const char *name) {
  for (unsigned i = 0; i < sizeof SETS / sizeof *SETS; i++)
    if ((!name || !strcmp(name, SETS[i].name)) && has(SETS[i].name)) return &SETS[i];
  return NULL;
}

EXPORT const char *instruction_set(const char *name) {
  const struct set *set = find_set(name);
  return set ? set->name : NULL;
}

struct crew {
  const struct job *job;
  const struct set *set;
  int backward;
  atomic_int failed, arrived, round;
  atomic_int *taken; /* [phases]: how many tasks of each were taken */
};

/* Wait until every thread of the crew is here. */
static void meet(struct crew *crew) {
  const int round = atomic_load(&crew->round);
  if (atomic_fetch_add(&crew->arrived, 1) == crew->job->threads - 1) {
    atomic_store(&crew->arrived, 0);
    atomic_fetch_add(&crew->round, 1);
    return;
  }
  for (int turns = 0; atomic_load(&crew->round) == round; turns++)
    if (turns > 4000) sched_yield();
}

static float *take(float **memory, long count) {
  float *taken = *memory;
  *memory += (count + 31) / 32 * 32;
  return taken;
}

static int set_up(const struct job *job, struct scratch *s) {
  const long sizes[] = {TILE * job->inputs_stride, TILE * job->wide, TILE * job->lanes,
                        TILE * job->inputs_lanes + LANES, TILE * job->wide, TILE * job->lanes,
                        TILE * job->inputs_stride, job->lanes, job->width + 1, job->width + 1,
                        TILE, TILE, TILE / 2 * (job->inputs_stride + job->wide + LANES)};
  long total = 0;
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) total += (sizes[i] + 31) / 32 * 32;
  float *memory = calloc(total + 16, sizeof(float));
  if (!memory) return 0;
  s->percepts = memory; /* the start of the block, to be freed */
  float *next = memory;
  take(&next, sizes[0]);
  s->hidden = take(&next, sizes[1]);
  s->update = take(&next, sizes[2]);
  s->d_percepts = take(&next, sizes[3]);
  s->d_hidden = take(&next, sizes[4]);
  s->d_update = take(&next, sizes[5]);
  s->raw = take(&next, sizes[6]);
  if (!isfinite(job->percept_limit)) s->raw = NULL;
  s->nowhere = take(&next, sizes[7]);
  s->columns = (int32_t *)take(&next, sizes[8]);
  s->hashes = (uint32_t *)take(&next, sizes[9]);
  s->ys = (int32_t *)take(&next, sizes[10]);
  s->xs = (int32_t *)take(&next, sizes[11]);
  s->pairs = (uint32_t *)take(&next, sizes[12]);
  return 1;
}

static float alpha(const struct job *job, const float *cells, long row, long column) {
  if (row < 0 || column < 0) return 0;
  return cells[(row * job->width + column) * job->lanes + job->living];
}

/* Is cell (y, x) or a neighbour of it above the threshold? Living neighbours are the nearest ones,
 * however far the filters see. */
static int lives(const struct job *job, const float *cells, long y, long x) {
  const int32_t *rows = job->near_rows + job->radius + y, *columns = job->near_columns + job->radius + x;
  const long even = job->hex ? !(job->rows[y] & 1) : 0;
  int any = 0;
  for (long i = -1; i <= 1; i++)
    for (long j = -1; j <= 1; j++) {
      /* On hexagons even rows miss the right-hand corners, odd rows the left-hand ones. */
      if (job->hex && i && j == (even ? 1 : -1)) continue;
      any |= alpha(job, cells, rows[i], columns[j]) > job->threshold;
    }
  return any;
}

static long count_strips(const struct job *job) { return (job->height + job->strip - 1) / job->strip; }

static long least(long a, long b) { return a < b ? a : b; }

static void forward_steps(struct crew *crew, struct scratch *s) {
  const struct job *job = crew->job;
  const long strips = count_strips(job), row = (long)job->width * job->lanes;
  const long sample_size = row * job->height, cells = (long)job->height * job->width;
  const int tasks = (int)(strips * job->batch), phases = job->living >= 0 ? 3 : 1;
  for (long step = 0; step < job->steps; step++) {
    const long slots = job->keep ? job->steps + 1 : 2;
    float *before = job->states + step % slots * job->batch * sample_size;
    float *after = job->states + (step + 1) % slots * job->batch * sample_size;
    uint8_t *alive = job->alive ? job->alive + (job->keep ? step : 0) * job->batch * cells : NULL;
    for (int phase = 0; phase < phases; phase++) {
      atomic_int *taken = crew->taken + step * phases + phase;
      for (int task; (task = atomic_fetch_add(taken, 1)) < tasks;) {
        const long sample = task / strips, y0 = task % strips * job->strip;
        const long y1 = least(y0 + job->strip, job->height), at = sample * sample_size;
        if (phase == 0) {
          crew->set->forward(job, s, sample, (uint32_t)(job->first_step + step), before + at,
                             after + at, y0, y1);
        } else if (phase == 1) {
          for (long y = y0; y < y1; y++)
            for (long x = 0; x < job->width; x++)
              alive[sample * cells + y * job->width + x] =
                  lives(job, before + at, y, x) && lives(job, after + at, y, x);
        } else {
          for (long i = y0 * job->width; i < y1 * job->width; i++) {
            float *cell = after + at + i * job->lanes;
            const float living = alive[sample * cells + i], most = job->state_limit;
            for (long c = 0; c < job->lanes; c++) {
              const float value = cell[c] * living;
              cell[c] = value < -most ? -most : value > most ? most : value;
            }
          }
        }
      }
      meet(crew);
    }
  }
}

static void backward_steps(struct crew *crew, struct scratch *s) {
  const struct job *job = crew->job;
  const long strips = count_strips(job), row = (long)job->width * job->lanes, radius = job->radius;
  const long sample_size = row * job->height, cells = (long)job->height * job->width;
  const long local_size = (job->strip + 2 * radius) * row, tasks = strips * job->batch;
  for (long step = job->steps - 1; step >= 0; step--) {
    const float *before = job->states + step * job->batch * sample_size;
    const uint8_t *alive = job->alive ? job->alive + step * job->batch * cells : NULL;
    atomic_int *taken = crew->taken + step * 2;
    for (int group; (group = atomic_fetch_add(taken, 1)) < job->groups;) {
      const long out = job->kind == KIND_ABS ? job->lanes : job->wide;
      struct sums sums = {
          job->sum_in_weight + group * job->inputs_rows * out, job->sum_in_bias + group * job->wide,
          job->sum_out_weight + group * job->channels_rows * job->wide,
          job->sum_out_bias + group * job->lanes,
          job->sum_coefs ? job->sum_coefs + group * job->parities * job->bank : NULL};
      for (long task = group; task < tasks; task += job->groups) {
        const long sample = task / strips, y0 = task % strips * job->strip;
        crew->set->backward(job, s, &sums, sample, (uint32_t)(job->first_step + step),
                            before + sample * sample_size, alive ? alive + sample * cells : NULL,
                            job->gradient + sample * sample_size, job->local + task * local_size, y0,
                            least(y0 + job->strip, job->height));
      }
    }
    meet(crew);
    /* Every row is the sum of its own strip's and of what the borders of strips fell upon it. */
    for (int task; (task = atomic_fetch_add(taken + 1, 1)) < tasks;) {
      const long sample = task / strips, y0 = task % strips * job->strip;
      const float *locals = job->local + sample * strips * local_size;
      for (long y = y0; y < least(y0 + job->strip, job->height); y++) {
        float *to = job->gradient + sample * sample_size + y * row;
        memcpy(to, job->local + task * local_size + (y - y0 + radius) * row, row * sizeof(float));
        for (long strip = 0; strip < strips; strip++) {
          const long top = strip * job->strip, end = least(top + job->strip, job->height);
          for (long i = 0; i < 2 * radius; i++) {
            const long from = i < radius ? i : end - top + i;
            if (job->near_rows[top + from] != y) continue;
            const float *more = locals + strip * local_size + from * row;
            for (long j = 0; j < row; j++) to[j] += more[j];
          }
        }
      }
    }
    meet(crew);
  }
}

static void *work(void *argument) {
  struct crew *crew = argument;
  struct scratch scratch;
  const int ready = set_up(crew->job, &scratch);
  if (!ready) atomic_store(&crew->failed, 1);
  meet(crew);
  if (!atomic_load(&crew->failed)) {
    if (crew->backward)
      backward_steps(crew, &scratch);
    else
      forward_steps(crew, &scratch);
  }
  if (ready) free(scratch.percepts);
  return NULL;
}

/* Run a job on its threads; 0, or 1 when memory or threads are short. */
static int run(struct job *job, const char *name, int backward) {
  struct crew crew = {.job = job, .set = find_set(name), .backward = backward};
  if (!crew.set) return 1;
  crew.taken = calloc(3 * (size_t)job->steps + 1, sizeof(atomic_int));
  pthread_t *threads = calloc(job->threads, sizeof(pthread_t));
  int started = 0;
  if (!crew.taken || !threads) {
    free(crew.taken);
    free(threads);
    return 1;
  }
  /* A thread that cannot be had leaves a smaller crew; nobody passes the first meeting before all
   * that were started are counted. */
  const int wanted = job->threads;
  atomic_store(&crew.arrived, -wanted);
  for (int i = 1; i < wanted; i++)
    if (!pthread_create(&threads[started], NULL, work, &crew)) started++;
  job->threads = started + 1;
  atomic_fetch_add(&crew.arrived, wanted);
  work(&crew);
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
  free(crew.taken);
  free(threads);
  return atomic_load(&crew.failed);
}

EXPORT int grow(struct job *job, const char *set) { return run(job, set, 0); }

EXPORT int grow_back(struct job *job, const char *set) { return run(job, set, 1); }
