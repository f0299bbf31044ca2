import { once } from 'node:events';
import type { Command } from 'commander';
import { FailedError, UsageError } from '../failure.js';
import { action, examples } from '../session.js';

interface ConsoleFlags {
  port: string;
  host: string;
  allowHost?: string[];
  stream?: string[];
  payloads?: boolean;
  write?: boolean;
}

export function addConsole(program: Command): void {
  program
    .command('console')
    .description('serve the console, pages for a browser, until Ctrl+C')
    .option('--port <port>', 'port to listen at; 0 takes a free one', '8080')
    .option(
      '--host <host>',
      'address to listen at; others than 127.0.0.1 can be reached from other machines',
      '127.0.0.1',
    )
    .option('--allow-host <name...>', 'names by which the console is reached, beside localhost and addresses')
    .option('--stream <key...>', 'show these streams only')
    .option('--payloads', 'show and search payloads')
    .option(
      '--write',
      'permit changes: redrive and delete dead letters, cancel delayed messages, pause and move groups',
    )
    .addHelpText(
      'after',
      examples(
        ['nrs console', 'prints a URL with a token; only the browser in which it is opened has access'],
        ['nrs console --payloads --write --stream orders', 'shows one stream with its payloads, and permits changes'],
      ),
    )
    .action(
      action<[], ConsoleFlags>(async (session, _args, { port, host, allowHost, stream, payloads, write }) => {
        const number = portOf(port);
        const streamer = await session.streamer();
        const { output } = session;
        // Nest and Express, which no other command needs.
        const { serveConsole } = await import('nestjs-redis-streams-console');
        const served = await serveConsole({
          streamer,
          host,
          port: number,
          ...(allowHost && { allowedHosts: allowHost }),
          readOnly: write !== true,
          showPayloads: payloads === true,
          ...(stream && { streams: stream }),
          log: (line) => void output.note(line),
        }).catch((error: unknown) => {
          throw isTaken(error) ? new FailedError(`The port ${number} is in use; --port 0 takes a free one`) : error;
        });
        const interruption = session.interruption();
        try {
          if (output.isJson) await output.json({ url: served.url });
          else await output.line(`The console is at ${served.url}`);
          if (!interruption.aborted) await once(interruption, 'abort');
        } finally {
          await served.close();
        }
      }),
    );
}

function portOf(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) < 65_536) return Number(text);
  throw new UsageError(`--port must be a number from 0 to 65535; got '${text}'`);
}

function isTaken(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
}
