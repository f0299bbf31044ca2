#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

void fail(const char *reason) {
  fprintf(stderr, "the C client: %s\n", reason);
  exit(1);
}

void queue(redisContext *redis, int count, const char **arguments, const size_t *lengths) {
  if (redisAppendCommandArgv(redis, count, arguments, lengths) != REDIS_OK) fail(redis->errstr);
}

void send_queued(redisContext *redis) {
  int done = 0;
  while (!done) {
    if (redisBufferWrite(redis, &done) != REDIS_OK) fail(redis->errstr);
  }
}

redisReply *next_reply(redisContext *redis, int type) {
  redisReply *reply;
  if (redisGetReply(redis, (void **)&reply) != REDIS_OK) fail(redis->errstr);
  if (reply->type == REDIS_REPLY_ERROR) fail(reply->str);
  if (reply->type != type) fail("a reply of another type than expected; the backlog may be shorter than it should be");
  return reply;
}

const redisReply *entries_of(const redisReply *page) {
  return page->element[0]->element[1];
}

size_t bytes_of(const redisReply *entries) {
  size_t bytes = 0;
  for (size_t index = 0; index < entries->elements; index += 1) {
    const redisReply *fields = entries->element[index]->element[1];
    for (size_t value = 1; value < fields->elements; value += 2) bytes += fields->element[value]->len;
  }
  return bytes;
}
