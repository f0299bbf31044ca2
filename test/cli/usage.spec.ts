import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { freePort } from '../support/free-port.js';
import { redisUrl } from '../support/redis.js';
import { runTool } from '../support/tool.js';

describe('the tool', () => {
  it.each([
    ['an unknown command', ['frobnicate'], /^nrs: unknown command 'frobnicate'/],
    ['an unknown option', ['ls', '--frobnicate'], /^nrs: unknown option '--frobnicate'/],
    ['options that exclude each other', ['lag', 'x', '--watch', '--check', 'max=1'], /cannot be used with/],
    ['a position that is none', ['seek', 'x', 'y', '--to', 'there'], /--to must be beginning, end, an id, an ISO date/],
    ['a wrong URL', ['ls', '--url', 'http://127.0.0.1'], /--url must be a URL that begins with redis:/],
    [
      'a URL without a scheme, whose password stays secret',
      ['ls', '--url', 'user:s3cret@h'],
      /^(?!.*s3cret).*--url must be a URL/s,
    ],
    ['a wrong limit of time', ['ls', '--timeout', 'soon'], /--timeout must be a time such as 10s; got 'soon'/],
    ['a port that is none', ['console', '--port', '99999'], /--port must be a number from 0 to 65535; got '99999'/],
  ])('exits with 2 and does nothing for %s', async (_case, args, message) => {
    const { code, stdout, stderr } = await runTool(args);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('exits with 1 and one line when no server answers at the URL', async () => {
    const port = await freePort();
    const { code, stdout, stderr } = await runTool(['ls', '--timeout', '500ms'], { url: `redis://127.0.0.1:${port}` });
    expect(stderr).toMatch(
      /^nrs: No connection to Redis at 127\.0\.0\.1:\d+ within 500 ms; last cause: .*ECONNREFUSED.*\n$/,
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  });

  it('refuses an interval that is longer than a timer can be', async () => {
    const { code, stderr } = await runTool(['lag', 'orders', '--watch', '--interval', '25d'], { url: redisUrl() });
    expect([code, stderr]).toEqual([2, "nrs: --interval must be a time such as 2s, from 100ms to 24d; got '25d'\n"]);
  });

  it('takes the URL from REDIS_URL', async () => {
    const { code, stdout } = await runTool(['ls', 'no-such-stream', '--json'], { env: { REDIS_URL: redisUrl() } });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '[]\n' });
  });

  it('shows examples in the help of every command', async () => {
    const script = `
      const { createProgram } = await import(process.argv[1]);
      const walk = (command, path) => command.commands.flatMap((each) => {
        if (each._hidden || each.name() === 'help') return [];
        const name = [...path, each.name()];
        if (each.commands.length > 0) return walk(each, name);
        let help = '';
        each.configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
        return [[name.join(' '), help]];
      });
      console.log(JSON.stringify(walk(createProgram(), [])));`;
    const program = new URL('../../packages/cli/dist/program.js', import.meta.url).href;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, program]);
    const helps = JSON.parse(stdout) as Array<[name: string, help: string]>;
    expect(helps.map(([name]) => name)).toEqual(
      expect.arrayContaining(['ls', 'dead redrive', 'consumers prune', 'doctor']),
    );
    const without = helps.filter(([name, help]) => !new RegExp(`Examples:\n {2}\\$ .*nrs ${name}`).test(help));
    expect(without.map(([name]) => name)).toEqual([]);
    for (const [, help] of helps) expect(help).toContain('--url <url>');
  });

  it('completes commands, options and choices', async () => {
    const candidates = async (...words: string[]): Promise<string[]> =>
      (await runTool(['complete', '--', ...words])).stdout.split('\n').filter(Boolean);
    const [commands, dead, options, taken, shells, formats] = await Promise.all([
      candidates('d'),
      candidates('--json', 'dead', ''),
      candidates('lag', 'orders', '--w'),
      candidates('lag', 'orders', '--check', ''),
      candidates('completion', ''),
      candidates('dump', '--format', ''),
    ]);
    expect(commands).toEqual(expect.arrayContaining(['dead', 'delayed', 'doctor']));
    expect(dead).toEqual(['ls', 'show', 'redrive', 'rm', 'help']);
    expect(options).toEqual(['--watch']);
    expect(taken).toEqual([]);
    expect(shells).toEqual(['bash', 'zsh', 'fish']);
    expect(formats).toEqual(['ss', 'ndjson']);
  });

  it('has a script for bash that completes words', async () => {
    const { stdout } = await runTool(['completion', 'bash']);
    const main = fileURLToPath(new URL('../../packages/cli/dist/main.js', import.meta.url));
    const script = `nrs() { "$NODE" "$MAIN" "$@"; }
      eval "$SCRIPT"
      COMP_WORDS=(nrs dead re) COMP_CWORD=2
      _nrs_completion
      echo "\${COMPREPLY[@]}"`;
    const env = { ...process.env, NODE: process.execPath, MAIN: main, SCRIPT: stdout };
    const found = await promisify(execFile)('bash', ['-c', script], { env });
    expect(found.stdout).toBe('redrive\n');
  });

  it('has a script for fish that completes file names for options that take a file', async () => {
    const { stdout } = await runTool(['completion', 'fish']);
    expect(stdout).toMatch(/^complete -c nrs -n '__fish_seen_subcommand_from load' -l input -r -F$/m);
    expect(stdout).toMatch(/^complete -c nrs -n '__fish_seen_subcommand_from dump' -l output -r -F$/m);
  });

  it('depends on the library of the same version', () => {
    const [library, tool] = ['../../package.json', '../../packages/cli/package.json'].map(
      (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as Record<string, unknown>,
    );
    expect(tool).toMatchObject({
      version: library?.['version'],
      dependencies: { 'nestjs-redis-streams': `^${String(library?.['version'])}` },
    });
  });
});
