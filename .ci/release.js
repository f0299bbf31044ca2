#!/usr/bin/env node
// Prepares a release, in which all packages have one version. Runs at the root of the repository:
//   node .ci/release.js prepare [version]   sets the given version, or the next one by the changes, and prints it
//   node .ci/release.js notes               prints the changes of the version that is set
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { parser, Release } from 'keep-a-changelog';
import semver from 'semver';

/**
 * @typedef {Record<'dependencies' | 'peerDependencies', Record<string, string> | undefined>} Ranges
 * @typedef {Ranges & { name: string, version: string, homepage: string, workspaces: string[] }} Manifest
 */

/**
 * @param {string} folder
 * @returns {Manifest}
 */
const manifestOf = (folder) => JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
/** @param {string[]} args */
const npm = (...args) =>
  execFileSync('npm', [...args, '--loglevel', 'error'], { stdio: ['ignore', 'ignore', 'inherit'] });

const { homepage, version: current, workspaces } = manifestOf('.');
const changelog = parser(readFileSync('CHANGELOG.md', 'utf8'));
changelog.format = 'markdownlint';
changelog.url = homepage.replace('#readme', '');
const [step, asked] = process.argv.slice(2);
if (step === 'prepare') console.log(prepare(asked));
else console.log(notes());

/** @param {string | undefined} given */
function prepare(given) {
  const changes = changelog.findRelease();
  if (!changes || changes.isEmpty()) throw new Error('CHANGELOG.md has no unreleased changes');
  const version = given ? semver.valid(given) : nextVersion(changes);
  if (!version) throw new Error(`A version such as 1.0.0 is needed; got ${given}`);
  const latest = changelog.releases.find((release) => release.version)?.version;
  if (latest && !semver.gt(version, latest)) throw new Error(`${version} is not above ${latest}, the latest release`);

  npm('version', version, '--workspaces', '--no-git-tag-version', '--allow-same-version', '--no-workspaces-update');
  const manifests = workspaces.map(manifestOf);
  for (const manifest of manifests) {
    const ranges = /** @type {const} */ (['dependencies', 'peerDependencies']).flatMap((kind) =>
      manifests.filter(({ name }) => manifest[kind]?.[name]).map(({ name }) => `${kind}.${name}=^${version}`),
    );
    if (ranges.length > 0) npm('pkg', 'set', ...ranges, '--workspace', manifest.name);
  }
  npm('install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund');

  changes.setVersion(version);
  changes.setDate(new Date());
  changelog.addRelease(new Release());
  writeFileSync('CHANGELOG.md', changelog.toString());
  return version;
}

/**
 * The first release has the version of the manifests. A later one is a patch if all changes repair something.
 * @param {Release} changes
 */
function nextVersion(changes) {
  if (!changelog.releases.some(({ version }) => version)) return current;
  const kinds = [...changes.changes].filter(([, list]) => list.length > 0).map(([kind]) => kind);
  if (kinds.includes('removed') && semver.major(current) > 0) return semver.inc(current, 'major');
  return semver.inc(current, kinds.every((kind) => kind === 'fixed' || kind === 'security') ? 'patch' : 'minor');
}

function notes() {
  const release = changelog.findRelease(current);
  if (!release) throw new Error(`CHANGELOG.md has no section for ${current}`);
  const [, ...lines] = release.toString(changelog).split('\n');
  return lines.join('\n').trim();
}
