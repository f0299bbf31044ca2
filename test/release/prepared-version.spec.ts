import { expect, it } from '@jest/globals';
import { ReleasedPackages } from './released-packages.js';

const BEFORE = '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A change.\n';
const PREPARED = BEFORE.replace('[Unreleased]', '[Unreleased]\n\n## [0.2.0] - 2026-01-01');

/** A repository, which is its own remote, with a commit of each changelog. */
async function repositoryWith(...changelogs: readonly string[]): Promise<ReleasedPackages> {
  const repository = new ReleasedPackages('0.2.0');
  await repository.git('init', '--quiet');
  await repository.git('remote', 'add', 'origin', '.');
  for (const changelog of changelogs) {
    repository.write('CHANGELOG.md', changelog);
    await repository.git('add', '--all');
    await repository.git('commit', '--quiet', '--allow-empty', '--message', 'build: a change');
  }
  return repository;
}

it('a prepared version: it is printed when the pushed commits contain its heading', async () => {
  using repository = await repositoryWith(BEFORE, PREPARED);
  expect(await repository.run('.ci/prepared-version', 'HEAD~1')).toBe('0.2.0');
});

it('a prepared version: it is printed again when a run is repeated, which has made its tag', async () => {
  using repository = await repositoryWith(BEFORE, PREPARED);
  await repository.git('tag', 'v0.2.0');
  expect(await repository.run('.ci/prepared-version', 'HEAD~1')).toBe('0.2.0');
});

it.each([
  ['the changelog has no heading for it', [BEFORE, BEFORE]],
  ['an earlier push has prepared it', [BEFORE, PREPARED, PREPARED]],
])('a prepared version: there is none when %s', async (_, changelogs) => {
  using repository = await repositoryWith(...changelogs);
  expect(await repository.run('.ci/prepared-version', 'HEAD~1')).toBe('');
});

it('a prepared version: it is refused when its tag is that of another commit', async () => {
  using repository = await repositoryWith(BEFORE, PREPARED);
  await repository.git('tag', 'v0.2.0', 'HEAD~1');
  await expect(repository.run('.ci/prepared-version', 'HEAD~1')).rejects.toThrow('v0.2.0 is the tag of');
});
