#include "peer.h"

#include <string.h>

/* A pipeline of XADDs, then all of its replies, then the next pipeline. */
void append(const struct job *job) {
  const char *arguments[] = {"XADD", job->key, "*", "msg", job->payload};
  const size_t lengths[] = {4, strlen(job->key), 1, 3, job->bytes};
  for (long sent = 0; sent < job->messages;) {
    const long left = job->messages - sent;
    const long size = left < job->page ? left : job->page;
    for (long index = 0; index < size; index += 1) queue(job->redis, 5, arguments, lengths);
    for (long index = 0; index < size; index += 1) freeReplyObject(next_reply(job->redis, REDIS_REPLY_STRING));
    sent += size;
  }
}
