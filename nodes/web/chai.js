// The web side of the pack: what a node has to say stands on it, and the side panel shows the cache.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ComfyWidgets } from "../../scripts/widgets.js";
import { Panel } from "./panel.js";

const TALKING = new Set([
  "CHAI_PromptToVideo",
  "CHAI_EnhancePrompt",
  "CHAI_ExtractEntities",
  "CHAI_Plan",
  "CHAI_Sampler",
  "CHAI_ReportText",
  "CHAI_CacheBrowser",
  "CHAI_PickDonor",
  "CHAI_CacheEntry",
]);
const SAID = "chai_said";

/** The read-only text at the foot of a node; it is no input, so it is neither saved nor sent. */
function saidWidget(node) {
  const known = node.widgets?.find((widget) => widget.name === SAID);
  if (known) return known;
  const { widget } = ComfyWidgets.STRING(node, SAID, ["STRING", { multiline: true }], app);
  widget.options.serialize = false;
  widget.serialize = false;
  widget.label = "";
  const field = widget.inputEl ?? widget.element;
  if (field) {
    field.readOnly = true;
    field.placeholder = "what happened will stand here";
    field.style.opacity = 0.85;
  }
  return widget;
}

function removeSocket(node) {
  const i = node.inputs?.findIndex((input) => input.widget?.name === SAID) ?? -1;
  if (i >= 0) node.removeInput(i);
}

function useAsDonor(id) {
  const pickers = (app.graph?._nodes ?? []).filter((node) => node.type === "CHAI_PickDonor");
  const chosen = pickers.filter((node) => node.is_selected ?? node.selected);
  for (const node of chosen.length ? chosen : pickers) {
    const widget = node.widgets?.find((each) => each.name === "entry");
    if (!widget) continue;
    widget.value = id;
    widget.callback?.(id);
  }
  app.graph?.setDirtyCanvas(true, true);
  return pickers.length;
}

app.registerExtension({
  name: "chai.cache",

  async beforeRegisterNodeDef(nodeType, nodeData) {
    if (!TALKING.has(nodeData.name)) return;
    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function (...args) {
      created?.apply(this, args);
      saidWidget(this);
      removeSocket(this);
      const size = this.computeSize();
      this.setSize?.([Math.max(size[0], 340), size[1]]);
    };
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message, ...args) {
      executed?.call(this, message, ...args);
      if (message?.text) saidWidget(this).value = [message.text].flat(2).join("\n");
    };
  },

  async setup() {
    const panel = new Panel(api, { useAsDonor, toast: (toast) => app.extensionManager?.toast?.add(toast) });
    app.extensionManager?.registerSidebarTab({
      id: "chai-cache",
      icon: "pi pi-database",
      title: "CHAI",
      tooltip: "CHAI cache: what earlier videos left behind",
      type: "custom",
      render: (element) => panel.show(element),
      destroy: () => panel.hide(),
    });
    api.addEventListener("chai.cache", () => panel.refresh());
    api.addEventListener("execution_success", () => panel.refresh());
  },
});
