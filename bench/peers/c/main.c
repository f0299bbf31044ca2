/*
 * A client in C, as fast as hiredis lets it be: a contender of the benchmarks.
 *
 *   peer ROW HOST PORT KEY GROUP MESSAGES PAGE BYTES
 *
 * It prints {} when it is connected. For each line of its input it does one round, and prints its milliseconds, the
 * milliseconds of CPU time that it took, and its resident memory in bytes. It ends with its input.
 */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef void (*row)(const struct job *job);

/* Without a reply for this time, a round fails. */
static const struct timeval TIMEOUT = {60, 0};

static row row_named(const char *name) {
  if (strcmp(name, "append") == 0) return append;
  if (strcmp(name, "consume") == 0) return consume;
  if (strcmp(name, "tail") == 0) return tail;
  fail("there is no such row");
}

static double elapsed(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double milliseconds(struct timeval time) {
  return (double)time.tv_sec * 1e3 + (double)time.tv_usec / 1e3;
}

static double cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime);
}

static long memory(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE);
}

static redisContext *connect_to(const char *host, int port) {
  redisContext *redis = redisConnectWithTimeout(host, port, TIMEOUT);
  if (redis == NULL) fail("no memory");
  if (redis->err || redisSetTimeout(redis, TIMEOUT) != REDIS_OK) fail(redis->errstr);
  return redis;
}

int main(int count, char **arguments) {
  if (count != 9) fail("usage: peer ROW HOST PORT KEY GROUP MESSAGES PAGE BYTES");
  const row work = row_named(arguments[1]);
  const size_t bytes = strtoul(arguments[8], NULL, 10);
  char *payload = malloc(bytes);
  if (payload == NULL) fail("no memory");
  memset(payload, 'x', bytes);
  const struct job job = {
    .redis = connect_to(arguments[2], atoi(arguments[3])),
    .key = arguments[4],
    .group = arguments[5],
    .messages = atol(arguments[6]),
    .page = atol(arguments[7]),
    .payload = payload,
    .bytes = bytes,
  };
  puts("{}");
  fflush(stdout);
  char line[16];
  while (fgets(line, sizeof line, stdin) != NULL) {
    const double cpu_before = cpu();
    const double start = elapsed();
    work(&job);
    const double took = elapsed() - start;
    printf("{\"elapsed\":%.3f,\"cpu\":%.3f,\"memory\":%ld}\n", took, cpu() - cpu_before, memory());
    fflush(stdout);
  }
  redisFree(job.redis);
  free(payload);
  return 0;
}
