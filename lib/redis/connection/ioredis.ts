/**
 * What this package uses of ioredis beside types. In the published ES modules `.ci/finish-build.js` puts another file here,
 * which loads it so that instrumentation sees it.
 */
export { Cluster, Redis, ReplyError } from 'ioredis';
