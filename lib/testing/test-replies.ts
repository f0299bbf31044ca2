import { concatMap, dematerialize, filter, isObservable, materialize, of } from 'rxjs';
import type { Observable, ObservableNotification } from 'rxjs';

import { StreamMessage } from '../engine/messages/stream-message.js';
import { DEFAULTS } from '../engine/options/options.js';
import type { PacketCodec } from '../nest/packet-codec.js';
import { RedisStreamsContext } from '../nest/redis-streams.context.js';
import { encodingFailure } from '../nest/requests/reply-writer.js';
import { isOfFilter } from '../nest/server/handler-runner.js';
import type { HandlerBinding } from '../nest/server/handler-binding.js';
import { promiseOf } from '../shared/callbacks.js';
import { toFields } from './test-streams.js';

/** What the client receives of the result of a request handler, value by value. */
export function receivedReplies(
  result: unknown,
  context: RedisStreamsContext,
  codec: PacketCodec,
): Observable<unknown> {
  const { binding } = RedisStreamsContext.scopeOf(context);
  return (isObservable(result) ? result : of(result)).pipe(
    concatMap((value) => (isOfFilter(value, context) ? value : of(value))),
    filter((value) => value !== undefined),
    // An error waits for the values before it.
    materialize(),
    concatMap(async (event): Promise<ObservableNotification<unknown>> => {
      return event.kind === 'N' ? { kind: 'N', value: await receivedReply(codec, binding, event.value) } : event;
    }),
    dematerialize(),
  );
}

/**
 * A value of a reply as the client receives it: encoded and decoded.
 * @throws PayloadDecodeError, or what the client gets in place of a value that cannot be encoded
 */
async function receivedReply(
  codec: PacketCodec,
  { pattern, streamKey }: Pick<HandlerBinding, 'pattern' | 'streamKey'>,
  data: unknown,
): Promise<unknown> {
  const encoding = promiseOf(() => codec.encode({ pattern, data }));
  const { payload } = await encoding.catch((error: unknown) => {
    // A client gets an object, which is no Error.
    const failure: unknown = encodingFailure(error);
    throw failure;
  });
  const fields = toFields([DEFAULTS.streamer.messageField, payload]);
  const shard = { streamKey, shardId: 0, key: streamKey };
  const message = StreamMessage.create(shard, { id: '0-1', fields, deliveryCount: 1 }, DEFAULTS.streamer);
  return codec.decode(message, pattern);
}
