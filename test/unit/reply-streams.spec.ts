import { describe, expect, it, jest } from '@jest/globals';

import { ReplyStreams } from '../../lib/nest/requests/reply-streams.js';
import { REPLY_STREAM_TTL, TTL_RENEWAL } from '../../lib/nest/requests/request-headers.js';
import { safeLogger } from '../../lib/shared/logger.js';

/** Three streams at most, over a fake that notes what it is asked for. */
function threeStreams(trimmed = 0) {
  const expiries: Array<[string, number]> = [];
  const trims: Array<[string, number]> = [];
  const warnings: string[] = [];
  const silent = (): void => undefined;
  const streams = new ReplyStreams({
    maxStreams: 3,
    logger: safeLogger({ error: silent, warn: (line) => void warnings.push(line), log: silent }),
    appending: {
      expire: async (streamKey, ttl) => void expiries.push([streamKey, ttl]),
      trimMaxLen: async (streamKey, maxLen) => {
        trims.push([streamKey, maxLen]);
        return trimmed;
      },
    },
  });
  const deleted = (): string[] => expiries.filter(([, ttl]) => ttl === 0).map(([name]) => name);
  return { streams, expiries, trims, warnings, deleted };
}

/** Runs with a clock that the test moves. */
async function atTimes(run: (pass: (milliseconds: number) => void) => void | Promise<void>): Promise<void> {
  let now = 1_000_000;
  const clock = jest.spyOn(performance, 'now').mockImplementation(() => now);
  try {
    await run((milliseconds) => void (now += milliseconds));
  } finally {
    clock.mockRestore();
  }
}

describe('reply streams of a server', () => {
  it('each gets a time to live with its first reply, which is renewed at most once in an interval', async () => {
    await atTimes((pass) => {
      const { streams, expiries } = threeStreams();
      for (let reply = 0; reply < 5; reply += 1) streams.replied('a');
      expect(expiries).toEqual([['a', REPLY_STREAM_TTL]]);
      pass(TTL_RENEWAL);
      streams.replied('a');
      expect(expiries).toHaveLength(2);
    });
  });

  it('when there are too many, those are deleted whose last reply is the oldest', () => {
    const { streams, deleted } = threeStreams();
    for (const name of ['a', 'b', 'c', 'a', 'd', 'e']) streams.replied(name);
    expect(deleted()).toEqual(['b', 'c']);
  });

  it('one to which an answer is streamed does not, until the answer has ended', () => {
    const { streams, deleted } = threeStreams();
    streams.beginAnswer('a');
    for (const name of ['b', 'c', 'd', 'e']) streams.replied(name);
    expect(deleted()).toEqual(['b', 'c']);
    streams.endAnswer('a');
    for (const name of ['f', 'g', 'h']) streams.replied(name);
    expect(deleted()).toEqual(['b', 'c', 'd', 'e']);
  });

  it('one that has expired by itself costs no command', async () => {
    await atTimes((pass) => {
      const { streams, deleted } = threeStreams();
      for (const name of ['a', 'b', 'c']) streams.replied(name);
      pass(REPLY_STREAM_TTL);
      for (const name of ['d', 'e', 'f']) streams.replied(name);
      expect(deleted()).toEqual([]);
    });
  });

  it('replies that nothing reads are deleted over a limit, with a warning', async () => {
    await atTimes(async (pass) => {
      const { streams, trims, warnings } = threeStreams(7);
      streams.replied('a');
      expect(trims).toEqual([]);
      pass(TTL_RENEWAL);
      streams.replied('a');
      await new Promise(setImmediate);
      expect(trims).toEqual([['a', 1_000_000]]);
      expect(warnings).toEqual(["7 replies in 'a' were deleted: its client does not read them"]);
    });
  });
});
