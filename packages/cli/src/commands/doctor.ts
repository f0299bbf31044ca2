import type { Command } from 'commander';
import { checkConsumerNames } from '../doctor/consumer-names.js';
import type { Finding, Level } from '../doctor/finding.js';
import { checkPermissions } from '../doctor/permissions.js';
import { checkServers } from '../doctor/servers.js';
import { checkStreams } from '../doctor/streams.js';
import { CheckFoundError } from '../failure.js';
import { countOf } from '../numbers.js';
import type { Output } from '../output.js';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';
import { checkExistence, streamKeysOf } from '../streams.js';
import { durationOption } from '../time.js';

interface DoctorFlags {
  deadAfter: string;
  maxPending: string;
}

const LEVELS: readonly Level[] = ['danger', 'warning', 'note', 'ok'];
const STYLES = { danger: 'red', warning: 'yellow', note: 'cyan', ok: 'green' } as const;

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'check servers, permissions, groups and consumer names; exit with 3 if messages can be lost or a master is away',
    )
    .argument('[key...]', 'the streams (default: all)')
    .option('--dead-after <time>', 'report a group that was not read for this time as dead', '7d')
    .option('--max-pending <number>', 'report a group with more pending entries than this', '10000')
    .addHelpText(
      'after',
      examples(
        ['nrs doctor', 'checks servers and all streams; it takes 8 seconds where consumers are alive'],
        ['nrs doctor orders --json', 'checks servers and one stream, and prints JSON for a monitoring system'],
      ),
    )
    .action(
      action<[keys: string[]], DoctorFlags>(async (session, [keys], { deadAfter, maxPending }) => {
        const limits = {
          deadAfter: durationOption('--dead-after', deadAfter, '7d'),
          maxPending: countOf('--max-pending', maxPending, 0),
        };
        const manager = await session.manager();
        const redis = await session.redis();
        const servers = await checkServers(redis);
        for (const key of keys) await checkExistence(manager, key);
        const streams =
          keys.length > 0 ? { keys, unreachable: [] } : await streamKeysOf(manager, { skipUnreachable: true });
        const findings = [
          ...servers.findings,
          ...(await checkPermissions(servers, session.username, session.prefix)),
          ...(await checkStreams(manager, streams.keys, limits)),
          ...(await checkConsumerNames(servers, session.prefix)),
          ...streams.unreachable.filter((address) => !isKnown(servers.findings, address)).map(uncheckedNode),
        ].sort((one, other) => LEVELS.indexOf(one.level) - LEVELS.indexOf(other.level));
        const { output } = session;
        if (output.isJson) await output.json(findings);
        else for (const finding of findings) await print(finding, output);
        if (findings.some(({ level }) => level === 'danger')) throw new CheckFoundError();
      }),
    );
}

/** Whether a finding says that the master is away. */
function isKnown(findings: readonly Finding[], address: string): boolean {
  return findings.some(({ check, subject }) => check === 'server' && subject === address);
}

/** A master that was away only while the keys were listed. */
function uncheckedNode(subject: string): Finding {
  const message = 'the streams of this master are not checked, because it did not answer in time';
  return { level: 'warning', check: 'groups', subject, message };
}

async function print({ level, check, subject, message, advice }: Finding, output: Output): Promise<void> {
  const name = output.styled(STYLES[level], level.padEnd(7));
  await output.line(`${name}  ${check.padEnd(14)}  ${printable(`${subject}: ${message}`)}`);
  if (advice !== undefined) await output.line(`${' '.repeat(25)}→ ${printable(advice)}`);
}
