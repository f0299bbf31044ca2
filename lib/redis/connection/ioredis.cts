import ioredis = require('ioredis');

/**
 * The one place that loads ioredis, by `require` also from the ES modules: instrumentation for tracing patches what
 * `require` returns, and is blind to ioredis when an ES module imports it.
 */
const { Cluster, Redis, ReplyError } = ioredis;
export = { Cluster, Redis, ReplyError };
