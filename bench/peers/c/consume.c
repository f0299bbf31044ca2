#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void request_page(const struct job *job) {
  char count[24];
  snprintf(count, sizeof count, "%ld", job->page);
  const char *arguments[] = {"XREADGROUP", "GROUP", job->group, "reader", "COUNT", count, "STREAMS", job->key, ">"};
  queue(job->redis, 9, arguments, NULL);
  send_queued(job->redis);
}

static void acknowledge(const struct job *job, const redisReply *entries) {
  const size_t count = entries->elements + 3;
  const char **arguments = malloc(count * sizeof *arguments);
  size_t *lengths = malloc(count * sizeof *lengths);
  if (arguments == NULL || lengths == NULL) fail("no memory");
  const char *words[] = {"XACK", job->key, job->group};
  for (size_t index = 0; index < 3; index += 1) {
    arguments[index] = words[index];
    lengths[index] = strlen(words[index]);
  }
  for (size_t index = 0; index < entries->elements; index += 1) {
    const redisReply *id = entries->element[index]->element[0];
    arguments[index + 3] = id->str;
    lengths[index + 3] = id->len;
  }
  queue(job->redis, (int)count, arguments, lengths);
  free(arguments);
  free(lengths);
}

static long acknowledged(const struct job *job) {
  redisReply *reply = next_reply(job->redis, REDIS_REPLY_INTEGER);
  const long count = (long)reply->integer;
  freeReplyObject(reply);
  return count;
}

/*
 * The next page is requested before this one is looked at, so the server reads while the entries of this page are counted
 * and their XACK is written:
 *
 *   commands  read 1 | read 2, ack 1 | read 3, ack 2 | …
 *   replies   page 1 | page 2, ack 1 | page 3, ack 2 | …
 */
void consume(const struct job *job) {
  long seen = 0;
  long settled = 0;
  size_t bytes = 0;
  request_page(job);
  while (seen < job->messages) {
    redisReply *page = next_reply(job->redis, REDIS_REPLY_ARRAY);
    const redisReply *entries = entries_of(page);
    const int is_first = seen == 0;
    seen += (long)entries->elements;
    if (seen < job->messages) request_page(job);
    bytes += bytes_of(entries);
    acknowledge(job, entries);
    freeReplyObject(page);
    if (!is_first) settled += acknowledged(job);
  }
  settled += acknowledged(job);
  if (seen != job->messages || settled != seen) fail("not every message was read and acknowledged once");
  if (bytes != job->bytes * (size_t)job->messages) fail("the payloads are not as long as they should be");
}
