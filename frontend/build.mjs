// Builds the page: one module, beside the integration's code that serves it.
import { build } from "esbuild";

await build({
  entryPoints: ["src/panel.ts"],
  outfile: "../custom_components/esphome_offload/page/built/page.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
});
