import type { Command } from 'commander';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';

export function addPause(program: Command): void {
  addPausing(program, {
    name: 'pause',
    description: 'pause a group in every process until it is resumed',
    effect: 'pauses',
    done: 'Paused',
    example: 'stops reading of the group workers from orders within two seconds; running handlers finish',
  });
}

export function addResume(program: Command): void {
  addPausing(program, {
    name: 'resume',
    description: 'end the pause of a group',
    effect: 'resumes',
    done: 'Resumed',
    example: 'lets the group workers read orders again',
  });
}

interface Pausing {
  readonly name: 'pause' | 'resume';
  readonly description: string;
  readonly effect: string;
  readonly done: string;
  readonly example: string;
}

function addPausing(program: Command, { name, description, effect, done, example }: Pausing): void {
  const isPaused = name === 'pause';
  program
    .command(name)
    .description(description)
    .argument('<key>', 'the stream; its shards are included')
    .argument('<group>', isPaused ? 'the consumer group; it may be created later' : 'the consumer group')
    .addHelpText('after', examples([`nrs ${name} orders workers`, example]))
    .action(
      action<[key: string, group: string]>(async (session, [key, group]) => {
        const manager = await session.manager();
        const { groups } = await manager.info(key);
        const isKnown = groups.some((each) => each.name === group);
        const hint = isKnown ? '' : ' The group does not exist yet.';
        await session.confirm(`This ${effect} the group '${group}' of '${key}' in every process.${hint}`);
        await (isPaused ? manager.pauseGroup(key, group) : manager.resumeGroup(key, group));
        const { output } = session;
        if (output.isJson) return output.json([{ streamKey: key, group, isPaused }]);
        await output.line(`${done} ${printable(group)} of ${printable(key)}`);
        if (!isKnown) await output.warn(`The stream '${key}' has no group '${group}' yet`);
      }),
    );
}
