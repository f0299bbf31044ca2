import { runShop } from './01-shop/driver/run-shop.js';

process.exitCode = await runShop(process.argv.slice(2));
