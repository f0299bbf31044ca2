import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly with?: Record<string, unknown>;
}

interface Job {
  readonly permissions?: Record<string, string>;
  readonly steps?: readonly Step[];
}

interface Workflow {
  readonly permissions?: unknown;
  readonly jobs: Record<string, Job>;
}

const folder = '.github/workflows';

describe.each(readdirSync(folder))('the workflow %s', (file) => {
  const workflow = parse(readFileSync(`${folder}/${file}`, 'utf8')) as Workflow;
  const jobs = Object.values(workflow.jobs);
  const steps = jobs.flatMap((job) => job.steps ?? []);

  it('has no permission beyond reading, except those that a job asks for', () => {
    expect([{}, { contents: 'read' }]).toContainEqual(workflow.permissions);
  });

  it('names each action by its digest', () => {
    const actions = steps.flatMap(({ uses }) => uses ?? []);
    expect(actions.filter((action) => !/@[0-9a-f]{40}$/.test(action))).toEqual([]);
  });

  it('leaves no token in the clone', () => {
    const checkouts = steps.filter(({ uses }) => uses?.startsWith('actions/checkout@'));
    expect(checkouts.filter((checkout) => checkout.with?.['persist-credentials'] !== false)).toEqual([]);
  });

  it('runs no code of dependencies in a step that has a token', () => {
    const withToken = steps.filter(({ env = {} }) => 'GH_TOKEN' in env);
    expect(withToken.flatMap(({ run = '' }) => run.split('\n')).filter((line) => /\b(node|npx) /.test(line))).toEqual(
      [],
    );
  });

  it('runs no scripts of dependencies in a job that may write', () => {
    const writing = jobs.filter(({ permissions = {} }) => Object.values(permissions).includes('write'));
    const commands = writing.flatMap((job) => (job.steps ?? []).flatMap(({ run }) => run?.split('\n') ?? []));
    expect(
      commands.filter((line) => /npm (ci|install|run|test)/.test(line) && !line.includes('--ignore-scripts')),
    ).toEqual([]);
  });
});
