import { readFileSync } from 'node:fs';
import { expect, it, jest } from '@jest/globals';
import { ReleasedPackages } from './released-packages.js';

// npm starts five times in a test.
jest.setTimeout(120_000);

const INTRODUCTION = '# Changelog\n\nAll changes, by hand.\n';
const CHANGE = '- `A` change of\n  two lines.\n';

const releaseOf = (version: string): string => `## [${version}] - 2026-01-01\n\n### Added\n\n- Another change.\n`;

/** Packages with a change of each kind since their release, or before their first one. */
function packagesWith(kinds: readonly string[], version = '0.1.2', release = releaseOf(version)): ReleasedPackages {
  const packages = new ReleasedPackages(version);
  const changes = kinds.map((kind) => `### ${kind}\n\n${CHANGE}\n`).join('');
  packages.write('CHANGELOG.md', `${INTRODUCTION}\n## [Unreleased]\n\n${changes}${release}`);
  return packages;
}

it('a release: all packages, their ranges and the lockfile have its version, and the changes its heading', async () => {
  using packages = packagesWith(['Added', 'Fixed']);
  const today = new Date().toISOString().slice(0, 10);

  expect(await packages.run('.ci/release.js', 'prepare')).toBe('0.2.0');

  const console = { version: '0.2.0', peerDependencies: { library: '^0.2.0', other: '^0.1.2' } };
  const cli = { version: '0.2.0', dependencies: { console: '^0.2.0', library: '^0.2.0' } };
  expect(packages.readJson('package.json')).toMatchObject({ version: '0.2.0' });
  expect(packages.readJson('packages/console/package.json')).toMatchObject(console);
  expect(packages.readJson('packages/cli/package.json')).toMatchObject(cli);
  expect(packages.readJson('package-lock.json')).toMatchObject({
    version: '0.2.0',
    packages: { '': { version: '0.2.0' }, 'packages/console': console, 'packages/cli': cli },
  });
  const notes = `### Added\n\n${CHANGE}\n### Fixed\n\n${CHANGE}`;
  expect(packages.read('CHANGELOG.md')).toContain(
    `${INTRODUCTION}\n## [Unreleased]\n\n## [0.2.0] - ${today}\n\n${notes}\n${releaseOf('0.1.2')}`,
  );
  expect(await packages.run('.ci/release.js', 'notes')).toBe(notes.trim());
});

it.each([
  ['a patch when all changes repair something', '0.1.3', ['Fixed', 'Security'], '0.1.2'],
  ['a minor version when something was removed before 1.0', '0.2.0', ['Removed'], '0.1.2'],
  ['a major version when something was removed after 1.0', '2.0.0', ['Removed'], '1.3.0'],
])('the version of a release: it is %s', async (_, version, kinds, latest) => {
  using packages = packagesWith(kinds, latest);
  expect(await packages.run('.ci/release.js', 'prepare')).toBe(version);
});

it('the version of a release: it is that of the manifests when it is the first', async () => {
  using packages = packagesWith(['Added'], '0.1.2', '');
  expect(await packages.run('.ci/release.js', 'prepare')).toBe('0.1.2');
  expect(packages.readJson('package.json')).toMatchObject({ version: '0.1.2' });
});

it('the version of a release: it is the one that is given', async () => {
  using packages = packagesWith(['Fixed']);
  expect(await packages.run('.ci/release.js', 'prepare', '1.0.0-rc.1')).toBe('1.0.0-rc.1');
  expect(packages.readJson('packages/cli/package.json')).toMatchObject({
    version: '1.0.0-rc.1',
    dependencies: { library: '^1.0.0-rc.1' },
  });
});

it.each([
  ['the version is none', ['Fixed'], '1.0', 'A version such as 1.0.0 is needed; got 1.0'],
  ['the version is an option', ['Fixed'], '--force', 'A version such as 1.0.0 is needed; got --force'],
  ['the version is released', ['Fixed'], '0.1.2', '0.1.2 is not above 0.1.2, the latest release'],
  ['nothing has changed', [], '0.2.0', 'CHANGELOG.md has no unreleased changes'],
])('a release is refused, and nothing is written, when %s', async (_, kinds, version, message) => {
  using packages = packagesWith(kinds);
  const changelog = packages.read('CHANGELOG.md');
  await expect(packages.run('.ci/release.js', 'prepare', version)).rejects.toThrow(message);
  expect(packages.readJson('package.json')).toMatchObject({ version: '0.1.2' });
  expect(packages.read('CHANGELOG.md')).toBe(changelog);
});

it('the notes of a release: there are none when its version was not prepared', async () => {
  using packages = packagesWith(['Fixed'], '0.1.2', '');
  await expect(packages.run('.ci/release.js', 'notes')).rejects.toThrow('CHANGELOG.md has no section for 0.1.2');
});

it('the notes of a release: they are what the changelog of this repository has, unchanged', async () => {
  const [changes = ''] =
    /^### .*?(?=^## |^\[Unreleased\]: |(?![^]))/ms.exec(readFileSync('CHANGELOG.md', 'utf8')) ?? [];
  using packages = new ReleasedPackages('0.1.2');
  packages.write('CHANGELOG.md', `${INTRODUCTION}\n## [Unreleased]\n\n${changes}`);
  await packages.run('.ci/release.js', 'prepare');
  expect(await packages.run('.ci/release.js', 'notes')).toBe(changes.trim());
});
