import { parseArgs } from 'node:util';

import { SCENARIOS, simulateOwnership } from './simulation.js';

const { values } = parseArgs({
  options: {
    members: { type: 'string', default: '10,100,1000' },
    shards: { type: 'string', default: '12,1000' },
    scenarios: { type: 'string', default: SCENARIOS.join(',') },
    seed: { type: 'string', default: '1' },
    /** Longest time of a message, in milliseconds, and the part of them that is lost. */
    delay: { type: 'string', default: '2' },
    loss: { type: 'string', default: '0' },
  },
});

console.log(
  '| members | shards | event | even after | moves | least possible | no owner | commands/s, most | commands/s, at rest |',
);
console.log('| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |');
for (const members of values.members.split(',').map(Number)) {
  for (const shards of values.shards.split(',').map(Number)) {
    for (const scenario of SCENARIOS.filter((name) => values.scenarios.split(',').includes(name))) {
      const result = await simulateOwnership({
        scenario,
        members,
        shards,
        seed: Number(values.seed),
        delay: Number(values.delay),
        loss: Number(values.loss),
      });
      const { evenAfter, moves, leastMoves, longestWithoutOwner, commandsAtMost, commandsAtRest } = result;
      const even = evenAfter === undefined ? `never (${result.least} … ${result.most})` : `${evenAfter.toFixed(1)} s`;
      const cells = [members, shards, scenario, even, moves, leastMoves, `${longestWithoutOwner.toFixed(1)} s`];
      console.log(`| ${[...cells, commandsAtMost, Math.round(commandsAtRest)].join(' | ')} |`);
      if (result.doubleOwners > 0 || evenAfter === undefined) process.exitCode = 1;
    }
  }
}
