import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { NameLease } from '../../lib/engine/consuming/name-lease.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import type { ConsumerNameInUseError, RedisStreamsError } from '../../lib/errors.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';

/** The keys of the names, as a server has them; shared by the leases of one test. */
class Names {
  readonly holders = new Map<string, string>();
  asked = 0;
  failure: Error | undefined;

  async holdName(key: string, _group: string, _consumer: string, holder: string): Promise<string | undefined> {
    this.asked += 1;
    if (this.failure) throw this.failure;
    const before = this.holders.get(key);
    this.holders.set(key, holder);
    return before;
  }

  async releaseName(key: string, _group: string, _consumer: string, holder: string): Promise<void> {
    if (this.holders.get(key) === holder) this.holders.delete(key);
  }
}

const running: NameLease[] = [];
let names: Names;
beforeEach(() => {
  names = new Names();
  jest.useFakeTimers();
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((lease) => lease.stop()));
  expect(jest.getTimerCount()).toBe(0);
  jest.useRealTimers();
});

function consumerOf(keys: readonly string[], mode: 'load-balanced' | 'resumable' = 'load-balanced') {
  const errors: RedisStreamsError[] = [];
  const lines: string[] = [];
  const current = keys.map((key) => new Partition(key, 0, key));
  const lease = new NameLease({
    consumer: { consumer: 'worker', mode },
    group: 'g',
    groups: names,
    partitions: { current },
    logger: { debug: (line: string) => void lines.push(line) },
    onError: (error) => void errors.push(error),
  });
  lease.start();
  running.push(lease);
  return { lease, errors, lines, current };
}

const seconds = (count: number): Promise<void> => jest.advanceTimersByTimeAsync(count * 1_000);
const manyKeys = (count: number, first = 0): string[] =>
  Array.from({ length: count }, (_, index) => `s${first + index}`);

describe('the lease of a consumer name', () => {
  it('two live consumers with one name both report it within ten seconds, once in five minutes', async () => {
    const one = consumerOf(['orders']);
    await seconds(1);
    const other = consumerOf(['orders']);
    await seconds(9);
    for (const { errors, lease } of [one, other]) {
      expect(errors).toMatchObject([
        { code: 'ERR_CONSUMER_NAME_IN_USE', streamKey: 'orders', group: 'g', consumer: 'worker', retryable: false },
      ]);
      expect(lease.conflict).toBe(errors[0]);
    }
    expect((one.errors[0] as ConsumerNameInUseError).message).toContain('handled twice');
    await seconds(280);
    expect(one.errors).toHaveLength(1);
    await seconds(30);
    expect(one.errors).toHaveLength(2);
  });

  it('a conflict is reported on the one stream that two consumers of other streams both read', async () => {
    const one = consumerOf(['a', 'b'], 'resumable');
    const other = consumerOf(['b', 'c'], 'resumable');
    await seconds(9);
    expect([one, other].map(({ errors }) => errors[0])).toMatchObject([{ streamKey: 'b' }, { streamKey: 'b' }]);
    expect(one.errors[0]?.message).toContain("mode 'resumable'");
  });

  it('a conflict is noticed on each of many streams, which take turns so that a look has a limit', async () => {
    const one = consumerOf(manyKeys(40));
    await seconds(0);
    expect(names.asked).toBe(16);
    const other = consumerOf([...manyKeys(39, 100), 's39']);
    await seconds(60);
    expect(one.errors[0]).toMatchObject({ streamKey: 's39' });
    expect(other.errors[0]).toMatchObject({ streamKey: 's39' });
  });

  it('the id of a consumer that crashed, or was closed, is no live consumer', async () => {
    names.holders.set('orders', 'of a process that crashed');
    const { errors, lease } = consumerOf(['orders']);
    await seconds(30);
    await lease.stop();
    const next = consumerOf(['orders']);
    await seconds(30);
    expect([...errors, ...next.errors]).toEqual([]);
  });

  it('one command that comes late from a process that crashed is no live consumer', async () => {
    const { errors } = consumerOf(['orders']);
    await seconds(4);
    names.holders.set('orders', 'late');
    await seconds(60);
    names.holders.set('orders', 'late');
    await seconds(60);
    expect(errors).toEqual([]);
  });

  it('the conflict ends when the other consumer has ended', async () => {
    const one = consumerOf(['orders']);
    const other = consumerOf(['orders']);
    await seconds(9);
    expect(one.lease.conflict).toBeDefined();
    await other.lease.stop();
    await seconds(12);
    expect(one.lease.conflict).toBeUndefined();
  });

  it('a user without the permission costs one debug line for a stream, and no further command', async () => {
    names.failure = new ReplyError("NOPERM this user has no permissions to run the 'get' command");
    const { errors, lines } = consumerOf(['orders']);
    await seconds(60);
    expect([errors, names.asked]).toEqual([[], 1]);
    expect(lines).toEqual([expect.stringMatching(/'worker' on 'orders' .*NOPERM/)]);
  });

  it('a server that does not answer does not hold up the end', async () => {
    const { lease } = consumerOf(['orders']);
    await seconds(1);
    names.holdName = () => new Promise(() => undefined);
    await seconds(3);
    const stopped = lease.stop();
    await seconds(2);
    await expect(stopped).resolves.toBeUndefined();
  });

  it('an outage causes no report and no log line', async () => {
    names.failure = new ReplyError('LOADING Redis is loading the dataset in memory');
    const one = consumerOf(['orders']);
    const other = consumerOf(['orders']);
    await seconds(30);
    expect([one.errors, one.lines]).toEqual([[], []]);
    names.failure = undefined;
    await seconds(9);
    expect([one.errors, other.errors].map(({ length }) => length)).toEqual([1, 1]);
  });
});
