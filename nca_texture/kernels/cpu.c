/* Steps of the automaton on CPUs: forward, and backward from kept states.
 *
 * cpu.py fills `struct job` and calls grow() or grow_back(); both run all steps in one call. A step
 * is one phase or more, and a phase many tasks, which threads take one after the other: a phase ends
 * when its tasks are done, whoever came to do them. Nothing here depends on how many threads there
 * are: a strip of rows is always the same strip, and sums of weights belong to strips.
 */

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { KIND_MLP, KIND_ABS };
enum { COMBINE_PLAIN, COMBINE_NORM, COMBINE_STEER };
enum { TILE = 32, M = 4, MOST_SIZE = 9, LANES = 16, USUAL_SIZE = 3 };

/* The same fields, in the same order, as _Job in cpu.py. */
struct job {
  int32_t kind, batch, height, width, channels, lanes, filters, size, radius, parities;
  int32_t hidden, wide; /* hidden units, and rounded up to a multiple of LANES */
  int32_t inputs, inputs_stride, inputs_rows, inputs_lanes, channels_rows;
  int32_t bank; /* numbers in the filters of one parity */
  int32_t always, limit_map, living, hex, strip, groups, threads, steps, first_step, first_slot, keep;
  int32_t held; /* the last channels of a cell, which the living mask leaves alone */
  int32_t combine, percepts; /* what is made of the second and third filter, and how many are left */
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
  const float *given;                      /* [batch, channels, height, width], or NULL: */
  float *result;                           /* what is laid out as cells before, and back behind */
  float *states;                           /* [steps + 1 or 2, batch, height, width, lanes] */
  uint8_t *alive;                          /* [steps or 1, batch, height, width], or NULL */
  float *gradient;                         /* [batch, height, width, lanes] */
  float *local;                            /* [batch, strips, strip + 2 radius, width, lanes] */
  float *sum_in_weight, *sum_in_bias, *sum_out_weight, *sum_out_bias, *sum_coefs; /* [groups, ...] */
  void (*team)(void (*)(void *), void *, unsigned, unsigned); /* OpenMP's threads, or NULL */
};

struct scratch { /* of one thread */
  uint32_t *pairs;
  float *percepts, *hidden, *update, *d_percepts, *d_hidden, *d_update, *raw, *seen, *d_seen, *beside;
  int32_t *columns, *ys, *xs;
  uint32_t *hashes;
  uint8_t *marks, *unmarked; /* four rows of cells, and one that stays empty */
  long count;
};

/* What the filters of a cell find, before it is combined; a vector may be written beyond. */
static inline long seen_stride(const struct job *job) {
  return job->combine ? (long)job->filters * job->channels + job->lanes : 0;
}

/* Filters of 3 x 3 and at most 16 channels have code of their own, whose loops are unrolled. */
static inline int usual(const struct job *job) {
  return job->size == USUAL_SIZE && job->lanes == LANES;
}

/* Whether the gradient of a new state is that of the old one as well, whatever the layers add. */
static inline int passes_all(const struct job *job, const uint8_t *alive) {
  return !alive && !isfinite(job->state_limit);
}

struct sums {
  float *in_weight, *in_bias, *out_weight, *out_bias, *coefs;
};

enum { STAGES = 4, PLAN_LANES = 16 };
#define LEAST_STEEP 1e-8f /* squared, so that the norm of a flat place has a gradient */
#define LEAST_SUM 1e-30f
#define LEAST_COST 1e-30
#define LEAST_EXPONENT -80.0f /* its power is next to nothing, but a normal float: others are slow */

/* Transport plans of one size. The same fields, in the same order, as _Plans in plans.py. */
struct plans {
  int32_t count, rows, columns, width, threads;
  int32_t iterations[STAGES];
  float temperatures[STAGES];
  const float *costs;               /* [count, rows, columns], or NULL: from left and right */
  float *plans;                     /* the same */
  const float *left, *right;        /* [count, rows or columns, width] */
  float *totals;                    /* [count]: what each transport costs */
  float *left_gradients, *right_gradients; /* of that by left and right, with constant plans; each or NULL */
  void (*team)(void (*)(void *), void *, unsigned, unsigned); /* OpenMP's threads, or NULL */
};

static inline long filled(long count) { return (count + PLAN_LANES - 1) / PLAN_LANES * PLAN_LANES; }

/* Rows are filled up with zeros. */
static inline long stride_of(const struct plans *plans) { return filled(plans->columns); }
static inline long wide_of(const struct plans *plans) { return filled(plans->width); }

static long plan_memory(const struct plans *plans) {
  const long rows = plans->rows, stride = stride_of(plans), wide = wide_of(plans);
  const long plan = rows * stride + 2 * rows + 3 * stride;
  if (plans->costs) return plan;
  return plan + rows * stride + (rows + 2 * stride + (rows > stride ? rows : stride)) * wide + rows +
         stride;
}

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

/* The upper half of a float, rounded to even. */
static inline uint32_t bfloat16(float value) {
  const union { float value; uint32_t bits; } it = {value};
  if (value != value) return it.bits >> 16 | 0x40;
  return (it.bits + 0x7fff + (it.bits >> 16 & 1)) >> 16;
}

#define NATIVE 1
#define EMULATED 2

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))
#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(x) JOIN(x, SET)

/* Between these two, code is compiled for a processor that has `features`. */
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#ifdef __clang__
#define BEGIN(features)                                                                            \
  PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END PRAGMA(clang attribute pop)
#else
#define BEGIN(features)                                                                            \
  PRAGMA(GCC push_options) PRAGMA(GCC target(features, "prefer-vector-width=512"))
#define END PRAGMA(GCC pop_options)
#endif

#if defined(__x86_64__)

/* Mark in `out` what is marked, or next to what is marked, among row y (rows[1]) and those above and
 * below. */
static void spread(const struct job *job, const uint8_t *const rows[3], int hex, long y,
                   uint8_t *out) {
  const int32_t *columns = job->near_columns + job->radius;
  const uint8_t *up = rows[0], *own = rows[1], *down = rows[2];
  /* On hexagons even rows miss the right-hand corners, odd rows the left-hand ones. */
  const int even = hex && !(job->rows[y] & 1), odd = hex && !even;
  for (long x = 0; x < job->width; x++) {
    const long left = columns[x - 1], right = columns[x + 1];
    int any = own[x] | up[x] | down[x];
    if (left >= 0) any |= own[left] | (odd ? 0 : up[left] | down[left]);
    if (right >= 0) any |= own[right] | (even ? 0 : up[right] | down[right]);
    out[x] = (uint8_t)any;
  }
}

/* Which cells of row y have a living cell next to them, or live: their steps may matter. */
static const uint8_t *near_life(const struct job *job, struct scratch *s, const uint8_t *alive, long y) {
  const uint8_t *rows[3];
  for (long i = 0; i < 3; i++) {
    const long row = job->near_rows[job->radius + y + i - 1];
    rows[i] = row < 0 ? s->unmarked : alive + row * job->width;
  }
  spread(job, rows, 0, y, s->marks);
  return s->marks;
}

#define SET avx512
#define VL 16
#define NV 6
#define BF16 0
BEGIN("avx512f,avx512vl,avx512bw,avx512dq,fma")
#include "cpu_plan.h"
#include "cpu_smooth.h"
#include "cpu_step.h"
END

#define SET avx512bf16
#define VL 16
#define NV 6
#define BF16 NATIVE
BEGIN("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma")
#include "cpu_step.h"
END

#define SET avx2
#define VL 8
#define NV 3
#define BF16 0
BEGIN("avx2,fma")
#include "cpu_plan.h"
#include "cpu_smooth.h"
#include "cpu_step.h"
END

#define SET avx2bf16
#define VL 8
#define NV 3
#define BF16 EMULATED
BEGIN("avx2,fma")
#include "cpu_step.h"
END

#define PLAIN_NV 3

#else

#define PLAIN_NV 6 /* 32 registers of four floats, as on 64-bit ARM */

#endif

#define SET plain
#define VL 4
#define NV PLAIN_NV
#define BF16 0
#include "cpu_plan.h"
#include "cpu_smooth.h"
#include "cpu_step.h"

typedef void forward_strip(const struct job *, struct scratch *, long, uint32_t, const float *,
                           const uint8_t *, float *, long, long);
typedef void backward_strip(const struct job *, struct scratch *, struct sums *, long, uint32_t,
                            const float *, const uint8_t *, const float *, float *, long, long);

typedef void make_plan(const struct plans *, long, float *);
typedef void smooth_picture(const float *, float *, long, long, const float *, float *);

static const struct set {
  const char *name;
  forward_strip *forward;
  backward_strip *backward;
  make_plan *plan, *transport; /* NULL: as without bfloat16 */
  smooth_picture *smooth;      /* the same */
} SETS[] = {
#if defined(__x86_64__)
    {"avx512", forward_strip_avx512, backward_strip_avx512, make_plan_avx512, make_transport_avx512,
     smooth_avx512},
    {"avx2", forward_strip_avx2, backward_strip_avx2, make_plan_avx2, make_transport_avx2,
     smooth_avx2},
#endif
    {"plain", forward_strip_plain, backward_strip_plain, make_plan_plain, make_transport_plain,
     smooth_plain},
#if defined(__x86_64__)
    /* Only by name: products of bfloat16, and the same slowly where a processor has none. */
    {"avx512bf16", forward_strip_avx512bf16, backward_strip_avx512bf16, NULL, NULL, NULL},
    {"avx2bf16", forward_strip_avx2bf16, backward_strip_avx2bf16, NULL, NULL, NULL},
#endif
};

static int has(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!strcmp(name, "avx512bf16")) return has("avx512") && __builtin_cpu_supports("avx512bf16");
  if (!strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (!strcmp(name, "avx2") || !strcmp(name, "avx2bf16"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
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

/* What threads that work on one job share. Whoever comes last, the caller or a thread that came too
 * late to find a task, frees it; so nobody waits for the late. */
struct crew {
  struct job job;
  const struct set *set;
  int backward;
  atomic_int members, done;
  struct phase {
    atomic_int taken, done;
  } phases[]; /* of all steps, one after the other */
};

/* The next task of a phase of `tasks`, or -1 when all are taken: then it waits until they are done. */
static int next_task(struct phase *phase, int tasks) {
  if (atomic_load(&phase->taken) < tasks) {
    const int task = atomic_fetch_add(&phase->taken, 1);
    if (task < tasks) return task;
  }
  for (int turns = 0; atomic_load(&phase->done) < tasks; turns++) {
    if (turns > 4000) sched_yield();
#if defined(__x86_64__)
    _mm_pause();
#endif
  }
  return -1;
}

static void finish_task(struct phase *phase) { atomic_fetch_add(&phase->done, 1); }

static float *take(float **memory, long count) {
  float *taken = *memory;
  *memory += (count + 31) / 32 * 32;
  return taken;
}

static int set_up(const struct job *job, struct scratch *s) {
  const long sizes[] = {TILE * job->inputs_stride, TILE * job->wide, TILE * job->lanes,
                        TILE * job->inputs_lanes + LANES, TILE * job->wide, TILE * job->lanes,
                        TILE * job->inputs_stride, job->size * job->size * job->lanes,
                        job->width + 1, job->width + 1, TILE, TILE,
                        TILE / 2 * (job->inputs_stride + job->wide + LANES),
                        job->width + 1, job->width / 4 + 1, TILE * seen_stride(job), seen_stride(job)};
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
  s->beside = take(&next, sizes[7]);
  s->columns = (int32_t *)take(&next, sizes[8]);
  s->hashes = (uint32_t *)take(&next, sizes[9]);
  s->ys = (int32_t *)take(&next, sizes[10]);
  s->xs = (int32_t *)take(&next, sizes[11]);
  s->pairs = (uint32_t *)take(&next, sizes[12]);
  s->marks = (uint8_t *)take(&next, sizes[13]);
  s->unmarked = (uint8_t *)take(&next, sizes[14]);
  s->seen = take(&next, sizes[15]);
  s->d_seen = take(&next, sizes[16]);
  return 1;
}

/* Which cells of row y are above the threshold, or have a neighbour that is. Living neighbours are
 * the nearest ones, however far the filters see. */
static const uint8_t *lives(const struct job *job, struct scratch *s, const float *cells, long y) {
  const uint8_t *rows[3];
  for (long i = 0; i < 3; i++) {
    const long row = job->near_rows[job->radius + y + i - 1];
    uint8_t *marks = s->marks + (i + 1) * job->width;
    const float *alpha = cells + row * job->width * job->lanes + job->living;
    for (long x = 0; row >= 0 && x < job->width; x++)
      marks[x] = alpha[x * job->lanes] > job->threshold;
    rows[i] = row < 0 ? s->unmarked : marks;
  }
  spread(job, rows, job->hex, y, s->marks);
  return s->marks;
}

static long count_strips(const struct job *job) { return (job->height + job->strip - 1) / job->strip; }

static long least(long a, long b) { return a < b ? a : b; }

enum { LINE = 16 }; /* numbers of a cache line: whole ones are read and written, since channels lie
                     * so far apart that their lines push each other out of the cache */

/* Cells [height, width, lanes] of a sample's rows [y0, y1) from channels [channels, height, width]. */
static void lay_out(const struct job *job, const float *from, float *cells, long y0, long y1) {
  const long width = job->width, lanes = job->lanes, plane = width * job->height, end = y1 * width;
  for (long start = y0 * width, stop; start < end; start = stop) {
    stop = least(start + LINE, end);
    for (long c = 0; c < job->channels; c++)
      for (long i = start; i < stop; i++) cells[i * lanes + c] = from[c * plane + i];
    for (long i = start; i < stop; i++)
      for (long c = job->channels; c < lanes; c++) cells[i * lanes + c] = 0;
  }
}

/* And back. */
static void put_back(const struct job *job, const float *cells, float *to, long y0, long y1) {
  const long width = job->width, lanes = job->lanes, plane = width * job->height, end = y1 * width;
  for (long start = y0 * width, stop; start < end; start = stop) {
    stop = least(start + LINE, end);
    for (long c = 0; c < job->channels; c++)
      for (long i = start; i < stop; i++) to[c * plane + i] = cells[i * lanes + c];
  }
}

/* A strip of rows of one sample: what most tasks are about. */
struct strip {
  long sample, y0, y1;
};

static struct strip strip_of(const struct job *job, int task) {
  const long strips = count_strips(job), y0 = task % strips * job->strip;
  return (struct strip){task / strips, y0, least(y0 + job->strip, job->height)};
}

/* Turn what was given into `cells` [batch, height, width, lanes], when something was. */
static struct phase *lay_out_all(struct crew *crew, struct phase *phase, float *cells) {
  const struct job *job = &crew->job;
  const long size = (long)job->height * job->width;
  const int tasks = (int)(count_strips(job) * job->batch);
  if (!job->given) return phase;
  for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
    const struct strip at = strip_of(job, task);
    lay_out(job, job->given + at.sample * size * job->channels,
            cells + at.sample * size * job->lanes, at.y0, at.y1);
  }
  return phase + 1;
}

static struct phase *put_back_all(struct crew *crew, struct phase *phase, const float *cells) {
  const struct job *job = &crew->job;
  const long size = (long)job->height * job->width;
  const int tasks = (int)(count_strips(job) * job->batch);
  if (!job->result) return phase;
  for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
    const struct strip at = strip_of(job, task);
    put_back(job, cells + at.sample * size * job->lanes,
             job->result + at.sample * size * job->channels, at.y0, at.y1);
  }
  return phase + 1;
}

static void forward_steps(struct crew *crew, struct scratch *s) {
  const struct job *job = &crew->job;
  const long mortal = job->channels - job->held;
  const long row = (long)job->width * job->lanes;
  const long sample_size = row * job->height, cells = (long)job->height * job->width;
  const long slots = job->keep ? job->steps + 1 : 2, size = job->batch * sample_size;
  const int tasks = (int)(count_strips(job) * job->batch);
  float *after = job->states + job->first_slot * size;
  struct phase *phase = lay_out_all(crew, crew->phases, after);
  for (long step = 0; step < job->steps; step++) {
    const float *before = after;
    after = job->states + (job->first_slot + step + 1) % slots * size;
    uint8_t *alive = job->alive ? job->alive + (job->keep ? step : 0) * job->batch * cells : NULL;
    if (job->living >= 0) {
      for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
        const struct strip at = strip_of(job, task);
        for (long y = at.y0; y < at.y1; y++)
          memcpy(alive + at.sample * cells + y * job->width,
                 lives(job, s, before + at.sample * sample_size, y), job->width);
      }
      phase++;
    }
    for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
      const struct strip at = strip_of(job, task);
      const long from = at.sample * sample_size;
      crew->set->forward(job, s, at.sample, (uint32_t)(job->first_step + step), before + from,
                         alive ? alive + at.sample * cells : NULL, after + from, at.y0, at.y1);
    }
    phase++;
    if (job->living < 0) continue;
    for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
      const struct strip at = strip_of(job, task);
      const long from = at.sample * sample_size;
      for (long y = at.y0; y < at.y1; y++) {
        const uint8_t *still = lives(job, s, after + from, y);
        uint8_t *row_alive = alive + at.sample * cells + y * job->width;
        for (long x = 0; x < job->width; x++) row_alive[x] &= still[x];
      }
    }
    phase++;
    for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
      const struct strip at = strip_of(job, task);
      const float most = job->state_limit;
      for (long i = at.y0 * job->width; i < at.y1 * job->width; i++) {
        float *cell = after + at.sample * sample_size + i * job->lanes;
        if (!alive[at.sample * cells + i]) /* a product: NaN stays NaN */
          for (long c = 0; c < mortal; c++) cell[c] *= 0.0f;
        if (!isfinite(most)) continue;
        for (long c = 0; c < job->lanes; c++)
          cell[c] = cell[c] < -most ? -most : cell[c] > most ? most : cell[c];
      }
    }
    phase++;
  }
  put_back_all(crew, phase, after);
}

static void backward_steps(struct crew *crew, struct scratch *s) {
  const struct job *job = &crew->job;
  const long strips = count_strips(job), row = (long)job->width * job->lanes, radius = job->radius;
  const long sample_size = row * job->height, cells = (long)job->height * job->width;
  const long local_size = (job->strip + 2 * radius) * row;
  const int tasks = (int)(strips * job->batch);
  struct phase *phase = lay_out_all(crew, crew->phases, job->gradient);
  for (long step = job->steps - 1; step >= 0; step--) {
    const float *before = job->states + step * job->batch * sample_size;
    const uint8_t *alive = job->alive ? job->alive + step * job->batch * cells : NULL;
    for (int group; (group = next_task(phase, job->groups)) >= 0; finish_task(phase)) {
      const long out = job->kind == KIND_ABS ? job->lanes : job->wide;
      struct sums sums = {
          job->sum_in_weight + group * job->inputs_rows * out, job->sum_in_bias + group * job->wide,
          job->sum_out_weight + group * job->channels_rows * job->wide,
          job->sum_out_bias + group * job->lanes,
          job->sum_coefs ? job->sum_coefs + group * job->parities * job->bank : NULL};
      for (int task = group; task < tasks; task += job->groups) {
        const struct strip at = strip_of(job, task);
        crew->set->backward(job, s, &sums, at.sample, (uint32_t)(job->first_step + step),
                            before + at.sample * sample_size, alive ? alive + at.sample * cells : NULL,
                            job->gradient + at.sample * sample_size, job->local + task * local_size,
                            at.y0, at.y1);
      }
    }
    phase++;
    /* Every row is the sum of its own strip's and of what the borders of strips fell upon it. */
    for (int task; (task = next_task(phase, tasks)) >= 0; finish_task(phase)) {
      const struct strip at = strip_of(job, task);
      const float *locals = job->local + at.sample * strips * local_size;
      for (long y = at.y0; y < at.y1; y++) {
        float *to = job->gradient + at.sample * sample_size + y * row;
        memcpy(to, job->local + task * local_size + (y - at.y0 + radius) * row, row * sizeof(float));
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
    phase++;
  }
  put_back_all(crew, phase, job->gradient);
}

static void take_steps(struct crew *crew, struct scratch *s) {
  if (crew->backward)
    backward_steps(crew, s);
  else
    forward_steps(crew, s);
  free(s->percepts);
}

/* A thread without memory of its own leaves its share to the others. */
static void help(struct crew *crew) {
  struct scratch scratch;
  if (!set_up(&crew->job, &scratch)) return;
  take_steps(crew, &scratch);
  atomic_store(&crew->done, 1);
}

static void leave(struct crew *crew) {
  if (atomic_fetch_sub(&crew->members, 1) == 1) free(crew);
}

static void team_member(void *crew) { help(crew); }

static void *thread_member(void *crew) {
  help(crew);
  leave(crew);
  return NULL;
}

/* Do a job with threads of our own; 0 without memory. */
static int work_with_threads(struct crew *crew) {
  struct scratch own;
  if (!set_up(&crew->job, &own)) return 0;
  for (int i = 1; i < crew->job.threads; i++) {
    pthread_t thread;
    atomic_fetch_add(&crew->members, 1);
    if (pthread_create(&thread, NULL, thread_member, crew)) {
      atomic_fetch_sub(&crew->members, 1);
      break; /* a smaller crew does the same */
    }
    pthread_detach(thread);
  }
  take_steps(crew, &own);
  return 1;
}

/* Ask for pages of 2 MB: states are large, and to touch fresh pages of 4 KB costs more than a step. */
static void prefer_large_pages(const void *memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t page = (uintptr_t)1 << 21;
  const uintptr_t first = ((uintptr_t)memory + page - 1) & ~(page - 1);
  const uintptr_t end = ((uintptr_t)memory + bytes) & ~(page - 1);
  if (memory && first < end) madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

/* Run a job; 0, or 1 when memory is short. */
static int run(const struct job *job, const char *name, int backward) {
  const struct set *set = find_set(name);
  const size_t phases = 4 * (size_t)job->steps + 2;
  struct crew *crew = calloc(1, sizeof *crew + phases * sizeof(struct phase));
  if (!set || !crew) {
    free(crew);
    return 1;
  }
  const size_t cells = (size_t)job->batch * job->height * job->width;
  const size_t state = cells * job->lanes * sizeof(float);
  prefer_large_pages(job->states, state * (job->keep ? job->steps + 1 : 2));
  prefer_large_pages(job->result, cells * job->channels * sizeof(float));
  if (backward) {
    const size_t rows = count_strips(job) * (job->strip + 2 * job->radius);
    prefer_large_pages(job->gradient, state);
    prefer_large_pages(job->local, job->batch * rows * job->width * job->lanes * sizeof(float));
  }
  crew->job = *job;
  crew->set = set;
  crew->backward = backward;
  atomic_store(&crew->members, 1);
  int done;
  if (job->team && job->threads > 1) {
    job->team(team_member, crew, (unsigned)job->threads, 0);
    done = atomic_load(&crew->done);
  } else {
    done = work_with_threads(crew);
  }
  leave(crew);
  return !done;
}

/* Tells whether cpu.py speaks of the same struct: an editable install may have been compiled before. */
EXPORT int job_size(void) { return sizeof(struct job); }

EXPORT int grow(const struct job *job, const char *set) { return run(job, set, 0); }

EXPORT int grow_back(const struct job *job, const char *set) { return run(job, set, 1); }

struct planners {
  struct plans plans;
  make_plan *plan;
  atomic_int taken, done;
};

/* A thread without memory of its own leaves its share to the others. */
static void make_plans(void *given) {
  struct planners *planners = given;
  const struct plans *plans = &planners->plans;
  float *memory = malloc(plan_memory(plans) * sizeof(float));
  for (int k; memory && (k = atomic_fetch_add(&planners->taken, 1)) < plans->count;) {
    planners->plan(plans, k, memory);
    atomic_fetch_add(&planners->done, 1);
  }
  free(memory);
}

EXPORT int plans_size(void) { return sizeof(struct plans); }

/* Make plans, or what comes of them, whole ones by each thread; 0, or 1 when memory is short. */
EXPORT int make_all_plans(const struct plans *plans, const char *name) {
  const struct set *set = find_set(name);
  if (!set || !set->plan) return 1;
  struct planners planners = {.plans = *plans, .plan = plans->costs ? set->plan : set->transport};
  if (plans->team && plans->threads > 1)
    plans->team(make_plans, &planners, (unsigned)plans->threads, 0);
  else
    make_plans(&planners);
  return atomic_load(&planners.done) < plans->count;
}

/* Smooth pictures [count, height, width] of a torus, each alone; 0, or 1 when memory is short. */
EXPORT int smooth(const float *from, float *to, long count, long height, long width,
                  const float *weights, const char *name) {
  const struct set *set = find_set(name);
  float *row = malloc((4 + width) * sizeof *row);
  if (!set || !set->smooth || !row) return free(row), 1;
  for (long k = 0; k < count; k++)
    set->smooth(from + k * height * width, to + k * height * width, height, width, weights, row);
  free(row);
  return 0;
}
