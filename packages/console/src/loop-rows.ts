import type { LoopHealth, StreamHealth } from 'nestjs-redis-streams';
import type { LoopRow } from './api.js';
import type { StreamPolicy } from './stream-policy.js';

/** The loops as viewers see them, without streams that the console may not show, and without loops that read only such streams. */
export function loopRows(loops: readonly LoopHealth[], policy: StreamPolicy): LoopRow[] {
  return loops.flatMap((loop) => {
    // A stream of answers is a part of its client, and the name says nothing of the streams of the application.
    const isShown = (key: string): boolean => loop.isForReplies || policy.allows(key);
    const keys = loop.streamKeys.filter(isShown);
    // A loop may have no stream, as that of a wildcard that none matches yet.
    if (keys.length === loop.streamKeys.length) return loopRow(loop);
    return keys.length === 0 ? [] : loopRow(partOf(loop, keys, isShown));
  });
}

interface ShownLoop extends LoopHealth {
  /** Whether it also reads streams that are not shown. */
  readonly isPart?: boolean;
}

/** A loop with the figures and errors of the streams that are shown. Its own errors may name others. */
function partOf(loop: LoopHealth, streamKeys: readonly string[], isShown: (key: string) => boolean): ShownLoop {
  const streams = loop.streams.filter(({ streamKey }) => isShown(streamKey));
  return {
    ...loop,
    streamKeys,
    streams,
    lag: sumOf(streams, ({ lag }) => lag),
    pending: sumOf(streams, ({ pending }) => pending),
    refusal: undefined,
    nameConflict: undefined,
    isPart: true,
  };
}

/** Undefined unless it is known for each of them. */
function sumOf(
  streams: readonly StreamHealth[],
  figure: (stream: StreamHealth) => number | undefined,
): number | undefined {
  const known = streams.flatMap((stream) => figure(stream) ?? []);
  return known.length === streams.length ? known.reduce((sum, value) => sum + value, 0) : undefined;
}

function loopRow(loop: ShownLoop): LoopRow {
  return {
    streams: loop.streamKeys,
    mode: loop.mode,
    group: loop.group ?? null,
    consumer: loop.consumer ?? null,
    isHealthy: loop.isHealthy,
    problem: problemOf(loop) ?? null,
    buffered: loop.buffered,
    inFlight: loop.inFlight,
    lag: loop.lag ?? null,
    pending: loop.pending ?? null,
    oldestHandler: loop.oldestHandler ?? null,
  };
}

function problemOf({
  isHealthy,
  isStalled,
  isPart,
  state,
  refusal,
  streams,
  nameConflict,
  allBusyFor,
}: ShownLoop): string | undefined {
  const refused = streams.flatMap(({ failure, refusal: ofStream }) => failure ?? ofStream ?? []);
  const error = refusal ?? refused[0] ?? nameConflict;
  if (error) return error.message;
  if (isStalled) return 'The loop stands still';
  if (isHealthy) return undefined;
  if (allBusyFor !== undefined) return `No handler has been free for ${Math.round(allBusyFor / 1_000)} s`;
  if (isPart) return `The loop is ${state}, or a stream that is not shown here is not read`;
  return `No read has succeeded for too long; the loop is ${state}`;
}
