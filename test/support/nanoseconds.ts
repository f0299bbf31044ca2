import { expect, it } from '@jest/globals';

import type { StreamProducer } from '../../lib/index.js';

interface Nanoseconds {
  /** What the server answers to INFO. */
  info(): Promise<string>;
  /** A producer with `timestampFormat: 'ns'`. */
  producer(): Promise<StreamProducer>;
}

/** Makes tests of sends with `timestampFormat: 'ns'`; Redis before 7.0, which has no ids of the form `<ns>-*`, must refuse them. */
export function nanosecondTests({ info, producer }: Nanoseconds): (name: string, test: () => Promise<void>) => void {
  return (name, test) =>
    it(name, async () => {
      if (!/^redis_version:[0-6]\./m.test(await info())) return test();
      await expect((await producer()).send('x')).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED_OPERATION',
        message: expect.stringMatching(/timestampFormat: 'ns'.*needs Redis 7\.0/),
      });
    });
}
