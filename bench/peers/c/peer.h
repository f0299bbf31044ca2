#ifndef PEER_H
#define PEER_H

#include <hiredis/hiredis.h>
#include <stddef.h>

/* What a round does: so many messages of a stream, in pages of so many commands or entries. */
struct job {
  redisContext *redis;
  const char *key;
  const char *group;
  long messages;
  long page;
  const char *payload;
  size_t bytes;
};

/* The rows. Each ends the program if a reply is not what it must be. */
void append(const struct job *job);
void consume(const struct job *job);
void tail(const struct job *job);

/* Prints the reason and ends the program. */
_Noreturn void fail(const char *reason);

/* Queues a command; it is sent by send_queued(), or while the next reply is awaited. */
void queue(redisContext *redis, int count, const char **arguments, const size_t *lengths);
void send_queued(redisContext *redis);

/* The next reply, which has this type; the caller frees it. */
redisReply *next_reply(redisContext *redis, int type);

/* The entries of a reply to XREAD or XREADGROUP for one stream. */
const redisReply *entries_of(const redisReply *page);

/* The bytes of the values of all entries. */
size_t bytes_of(const redisReply *entries);

#endif
