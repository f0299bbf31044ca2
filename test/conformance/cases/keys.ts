import { describe, expect, it } from '@jest/globals';

import type { CommandBench } from '../../support/command-bench.js';
import { uniqueName } from '../../support/redis.js';

const PREFIXES: ReadonlyArray<readonly [what: string, prefix: string]> = [
  ['unicode', 'ключ€𝄞:'],
  ['line breaks and a zero byte', 'a\r\nb\u0000:'],
  ['a hash tag', '{tag}:'],
  ['characters that mean something in a pattern', 'a*[x]?\\^-:'],
];
/** No key can be kept beside a stream under this prefix, in the same slot. */
const ODD_PREFIX = ['braces that are no hash tag', '{}a}{:'] as const;

/** Keys of any text, under prefixes of any text, and the search for them. */
export function keyCases(bench: CommandBench): void {
  describe('keys', () => {
    const commandsUnder = (text: string) => {
      const keyPrefix = `${uniqueName('p')}${text}`;
      return { keyPrefix, ...bench.commandsWith({ keyPrefix }) };
    };

    it.each([...PREFIXES, ODD_PREFIX])(
      'under a prefix with %s are written, read, claimed and found',
      async (_, text) => {
        const { keyPrefix, writing, control } = commandsUnder(text);
        const streamKey = `s{ü}\r\n${uniqueName('s')}`;
        const key = keyPrefix + streamKey;
        const [id] = await writing.appending.append(streamKey, [{ id: '*', fields: ['msg', 'x'] }]);
        expect((await bench.stored(key)).map(([each]) => each)).toEqual([id]);

        expect(await control.groups.createGroup(streamKey, 'g', '0', false)).toBe(true);
        const pages = await control.reading.readGroup({ group: 'g', consumer: 'c', streamKeys: [streamKey], count: 5 });
        expect(pages.map((page) => [page.streamKey, page.entries.map((entry) => entry.id)])).toEqual([
          [streamKey, [id]],
        ]);
        const listed = await control.pending.pending(streamKey, 'g', { count: 5 });
        const claimed = await control.pending.claimOwn(streamKey, 'g', 'c', listed, true);
        expect(claimed.entries.map((entry) => [entry.id, entry.deliveryCount])).toEqual([[id, 2]]);
        expect(await scanned(control)).toEqual([streamKey]);
      },
    );

    it.each(PREFIXES)('under a prefix with %s have records of an inbox beside them', async (_, text) => {
      const { control } = commandsUnder(text);
      const record = { streamKey: 's{ü}\r\n', group: 'g', id: '1-1' };
      expect(await control.inbox.record(record, 't', 60_000, [])).toBe(true);
      expect(await control.inbox.isRecorded(record)).toBe(true);
      expect(await scanned(control)).toEqual([]);
    });

    it(`under a prefix with ${ODD_PREFIX[0]} are refused where something must be kept beside them`, async () => {
      const { writing, control } = commandsUnder(ODD_PREFIX[1]);
      const refusal = { code: 'ERR_INVALID_OPTION', option: 'streamKey' };
      const isRecorded = control.inbox.isRecorded({ streamKey: 's{ü}', group: 'g', id: '1-1' });
      await expect(isRecorded).rejects.toMatchObject(refusal);
      expect(() => writing.appending.requireSideKey('producer', 's{ü}')).toThrow(expect.objectContaining(refusal));
    });

    if (bench.way.may.scripts) {
      it.each(PREFIXES)('under a prefix with %s are appended to exactly once', async (_, text) => {
        const { writing, control } = commandsUnder(text);
        const streamKey = 's{ü}\r\n';
        const once = { producer: 'p', batch: 1, oldest: 1, remember: 60_000 };
        const batch = { streamKey, requests: [{ id: '*', fields: ['msg', 'y'] }], trim: {}, wantsIds: true, once };
        await writing.appending.prepare(batch, 10_000);
        expect(await writing.appending.write(batch)).toEqual([expect.stringMatching(/^\d+-\d+$/)]);
        expect(await scanned(control)).toEqual([streamKey]);
      });
    }

    it('of streams are found on every page of a scan, each with its prefix removed', async () => {
      const keyPrefix = `${uniqueName('scan')}*:`;
      const { writing, control } = bench.commandsWith({ keyPrefix });
      const names = Array.from({ length: 1_200 }, (_, index) => `s-${index}`);
      await Promise.all(names.map((name) => writing.appending.append(name, [{ id: '*', fields: ['msg', 'x'] }])));
      // Neither another type nor a key that only a pattern would match.
      const decoys = [`${keyPrefix}text`, keyPrefix.replace('*', 'x') + 's'] as const;
      await (await bench.admin(decoys[0])).set(decoys[0], 'x');
      await (await bench.admin(decoys[1])).xadd(decoys[1], '*', 'msg', 'x');

      const pages: number[] = [];
      const found = await scanned(control, (page) => pages.push(page.length));
      expect([...new Set(found)].sort()).toEqual(names.sort());
      expect(pages.length).toBeGreaterThan(2);
    });
  });

  async function scanned(
    { reading }: ReturnType<CommandBench['commandsWith']>['control'],
    onPage: (streams: string[]) => unknown = () => undefined,
  ): Promise<string[]> {
    const found: string[] = [];
    for (let cursor = '0', isFirst = true; isFirst || cursor !== '0'; isFirst = false) {
      const page = await reading.scan(cursor);
      onPage(page.streams);
      found.push(...page.streams);
      cursor = page.cursor;
    }
    return found;
  }
}
