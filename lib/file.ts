/**
 * Files of messages, `.ss`, as streams of Node.js. Import from `nestjs-redis-streams/file`.
 * @packageDocumentation
 */

export { SsDecoder } from './file/ss-decoder.js';
export type { SsDecoderOptions } from './file/ss-decoder.js';
export { SsEncoder } from './file/ss-encoder.js';
export type { SsEncoderOptions } from './file/ss-encoder.js';
export type { SsFileMessage, SsHeader, SsMessage } from './file/ss-format.js';
