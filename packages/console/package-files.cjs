'use strict';
const { basename, join } = require('node:path');

// CommonJS knows its folder, which the server needs and cannot tell in the same words as an ES module and as CommonJS. The build
// copies this file into dist, with the other path of package.json, which is a literal because bundlers follow no other.
exports.WEB_FOLDER = join(__dirname, basename(__dirname) === 'dist' ? '' : 'dist', 'web');
exports.VERSION = require('./package.json').version;
