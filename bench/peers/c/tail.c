#include "peer.h"

#include <stdio.h>

static void request_page(const struct job *job, const char *after) {
  char count[24];
  snprintf(count, sizeof count, "%ld", job->page);
  const char *arguments[] = {"XREAD", "COUNT", count, "STREAMS", job->key, after};
  queue(job->redis, 6, arguments, NULL);
  send_queued(job->redis);
}

/* The next page is requested before the entries of this one are counted. */
void tail(const struct job *job) {
  long seen = 0;
  size_t bytes = 0;
  request_page(job, "0");
  while (seen < job->messages) {
    redisReply *page = next_reply(job->redis, REDIS_REPLY_ARRAY);
    const redisReply *entries = entries_of(page);
    seen += (long)entries->elements;
    if (seen < job->messages) request_page(job, entries->element[entries->elements - 1]->element[0]->str);
    bytes += bytes_of(entries);
    freeReplyObject(page);
  }
  if (seen != job->messages) fail("not every message was read once");
  if (bytes != job->bytes * (size_t)job->messages) fail("the payloads are not as long as they should be");
}
