import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import { useCompiledSamples } from '../support/compiled-samples.js';
import { redisUrl } from '../support/redis.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** A sample takes a few seconds, the last one ten; much more when both cores are busy. */
const LIMIT = 120_000;

/** The samples, except the first and that of the cluster, which have test files of their own; with lines that each must print. */
const SAMPLES = {
  '02-request-response': [
    'price of tea: 5',
    'its history: 3, 4, 5',
    'forecast for tea: 6',
    'forecast for salt: no answer within 500 ms',
    'price of gold: {"code":"UNKNOWN_PRODUCT","product":"gold"}',
    'discount: ERR_NO_HANDLER',
  ],
  '03-retry-and-dead-letter': [
    'slow-line: attempt 3',
    'slow-line: paid',
    'nothing: dead, nothing to pay',
    'big-sum: dead, failed 3 times',
    'dead letters: nothing (nothing to pay), big-sum (failed 3 times)',
    'the bank is open: 1 put back, 1 left',
    'paid: easy, slow-line, big-sum',
    'dead letters: nothing (nothing to pay)',
  ],
  '04-batches-and-ordered-lanes': [
    /^clicks: 999 stored in \d+ batches of at most \d+$/,
    'refused: nowhere',
    'ann: 1 2 3 4 5',
    'bob: 1 2 3 4 5',
    'eve: 1 2 3 4 5',
    'at once: 3; last: eve-5',
  ],
  '05-hybrid-app': [
    'stream orders: tea reserved',
    'http: 201',
    'tcp: the order of coffee is refused, because TCP does not store it',
    'over TCP: tea',
    'over streams: tea',
  ],
  '07-outbox': [
    'relay-1 was killed after 80 orders, and is restarted',
    'bookings was killed after 160 orders, and is restarted',
    'orders was killed after 240 orders, and is restarted',
    'relay-2 was killed after 320 orders, and is restarted',
    /^(\d+) orders, \1 events, \1 bookings, in order$/,
  ],
  '08-observability': [
    'POST /orders [SERVER, gateway]',
    '  send orders [PRODUCER, gateway]',
    '    process orders [CONSUMER, orders]',
    '      send payments [PRODUCER, orders]',
    /^ {8}process payments \[CONSUMER, payments\] ✗ the bank does not answer \(messaging\.redis\.retry\)$/,
    /^ {8}process payments \[CONSUMER, payments\] \(messaging\.redis\.redelivery\)$/,
    /^redis_streams_messages_handled_total\{.*pattern="payments",outcome="ack"\} 1$/,
    /^redis_streams_dead_letters_total\{.*\} 1$/,
  ],
} as const;
const NAMES = Object.keys(SAMPLES) as Array<keyof typeof SAMPLES>;

const folder = useCompiledSamples();

describe('the samples', () => {
  it.each(NAMES)(
    '%s runs to its end, prints the expected lines, and leaves no key behind',
    async (name) => {
      const { stdout, stderr } = await start([join(folder, 'sample/run.js'), name]);
      const lines = stdout.trim().split('\n');

      expect(stderr).toBe('');
      const isPrinted = (expected: string | RegExp): boolean =>
        lines.some((line) => (typeof expected === 'string' ? line === expected : expected.test(line)));
      const missing = SAMPLES[name].filter((expected) => !isPrinted(expected));
      expect({ missing, lines }).toEqual({ missing: [], lines });
      expect(await sampleKeys()).toEqual([]);
    },
    LIMIT,
  );

  it('have one npm script each, and a README', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const folders = readdirSync(join(ROOT, 'sample')).filter((entry) => /^\d\d-/.test(entry));

    expect(folders).toEqual(['01-shop', ...NAMES, '06-cluster'].sort());
    for (const name of folders) expect(readdirSync(join(ROOT, 'sample', name))).toContain('README.md');
    for (const name of folders.slice(1)) {
      expect(scripts[`sample:${name.slice(0, 2)}`]).toBe(`nest build && node .run/sample/run.js ${name}`);
    }
  });
});

/** Runs a program that uses the Redis of this run; rejects with its output unless its exit code is 0. */
function start(args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const env = { ...process.env, REDIS_URL: redisUrl(), NODE_NO_WARNINGS: '1' };
  return promisify(execFile)(process.execPath, args, { cwd: ROOT, env, timeout: LIMIT });
}

async function sampleKeys(): Promise<string[]> {
  const redis = new Redis(redisUrl());
  try {
    return await redis.keys('sample-*');
  } finally {
    await redis.quit();
  }
}
