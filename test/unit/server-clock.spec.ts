import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { ServerClock } from '../../lib/redis/commands/server-clock.js';
import { ServerFeatures } from '../../lib/redis/commands/server-features.js';
import type { CommandChannel } from '../../lib/redis/wire/command-channel.js';
import { ConnectionLost, ReplyError } from '../../lib/redis/wire/resp-reader.js';

const START = 1_800_000_000_000;

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  expect(jest.getTimerCount()).toBe(0);
  jest.useRealTimers();
});

/** A server whose clock is set by the test, and moves with the monotonic clock. */
class Server {
  time = START;
  asked = 0;
  error: Error | undefined;
  reply: unknown;
  readonly channel = { command: async () => this.#tell() } as unknown as CommandChannel;

  async #tell(): Promise<unknown> {
    this.asked += 1;
    if (this.error) throw this.error;
    return this.reply ?? [String(Math.floor(this.time / 1_000)), String((this.time % 1_000) * 1_000)];
  }

  pass(ms: number): void {
    jest.advanceTimersByTime(ms);
    this.time += ms;
  }
}

describe('the clock of a server', () => {
  it('is read from the server and runs on the monotonic clock, whatever becomes of the clock of this machine', async () => {
    const server = new Server();
    const clock = new ServerClock(new ServerFeatures());
    await clock.ask(server.channel);
    jest.setSystemTime(START + 86_400_000);
    server.pass(900);

    expect(clock.isCurrent(server.channel)).toBe(true);
    expect(clock.now(server.channel)).toBe(server.time);
    expect(server.asked).toBe(1);
  });

  it('is unknown before the server was asked, and each connection has its own', async () => {
    const [one, other] = [new Server(), new Server()];
    other.time -= 3_600_000;
    const clock = new ServerClock(new ServerFeatures());
    await clock.ask(one.channel);

    expect([clock.isCurrent(other.channel), clock.now(other.channel)]).toEqual([false, undefined]);
    await clock.ask(other.channel);
    expect([clock.now(one.channel), clock.now(other.channel)]).toEqual([one.time, other.time]);
  });

  it('is read again in the background while it is used, so that a clock that was set is noticed', async () => {
    const server = new Server();
    const clock = new ServerClock(new ServerFeatures());
    await clock.ask(server.channel);
    server.time -= 3_600_000;
    server.pass(1_500);
    expect(clock.isCurrent(server.channel)).toBe(true);
    expect(clock.isCurrent(server.channel)).toBe(true);
    await clock.ask(server.channel);

    expect(clock.now(server.channel)).toBe(server.time);
    expect(server.asked).toBe(2);
  });

  it('is not current after a silence, in which it is not asked', async () => {
    const server = new Server();
    const clock = new ServerClock(new ServerFeatures());
    await clock.ask(server.channel);
    server.pass(60_000);

    expect(clock.isCurrent(server.channel)).toBe(false);
    expect(server.asked).toBe(1);
  });

  it('is unknown where the server does not permit TIME, which is tried once', async () => {
    const missing: string[] = [];
    const server = new Server();
    server.error = new ReplyError("NOPERM this user has no permissions to run the 'time' command");
    const clock = new ServerClock(new ServerFeatures((feature) => missing.push(feature)));
    await clock.ask(server.channel);
    server.pass(60_000);

    expect([clock.isCurrent(server.channel), clock.now(server.channel)]).toEqual([true, undefined]);
    expect([missing, server.asked]).toEqual([['TIME'], 1]);
  });

  it.each([
    ['null', null],
    ['words', ['soon', 'later']],
    ['a number', 5],
  ])('is unknown for a while when a proxy answers with %s', async (_, reply) => {
    const server = new Server();
    server.reply = reply ?? 'nothing';
    const clock = new ServerClock(new ServerFeatures());
    await clock.ask(server.channel);

    expect([clock.isCurrent(server.channel), clock.now(server.channel)]).toEqual([true, undefined]);
    server.pass(10_000);
    expect(clock.isCurrent(server.channel)).toBe(false);
  });

  it('is not known when the connection ends before the reply, and the next one is asked', async () => {
    const server = new Server();
    server.error = new ConnectionLost('the connection was closed');
    const clock = new ServerClock(new ServerFeatures());
    await expect(clock.ask(server.channel)).rejects.toThrow('closed');
    expect(clock.isCurrent(server.channel)).toBe(false);

    server.error = undefined;
    await clock.ask(server.channel);
    expect(clock.now(server.channel)).toBe(server.time);
  });
});
