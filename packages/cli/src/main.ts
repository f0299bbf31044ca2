#!/usr/bin/env node
import { runTool } from './program.js';

process.exitCode = await runTool(process.argv.slice(2));
