"""Unity: a compute shader with its script, and shaders for a custom render texture with theirs."""

from collections.abc import Sequence

from nca_texture.export.bands import cell_source, in_dialect, rows_of, turn_source, wrap_source
from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.c import identifier
from nca_texture.export.stepping import HLSL, colours_source, groups_of, step_source, title

_SIDE = 256  # cells

_COMPUTE = """\
#pragma kernel Start
#pragma kernel Step
{mask_pragma}#pragma kernel Show

StructuredBuffer<float4> Before;
RWStructuredBuffer<float4> After;
{mask_buffer}RWTexture2D<float4> Picture;
int Width;
int Height;
uint Taken;  // steps
uint Seed;

int nca_index(int group, int x, int y) {{ return (group * Height + y) * Width + x; }}
float4 nca_read(int group, int x, int y) {{ return Before[nca_index(group, x, y)]; }}
{after}
{step}
{colours}
[numthreads(8, 8, 1)]
void Start(uint3 id : SV_DispatchThreadID) {{
  int x = int(id.x), y = int(id.y);
  if (x >= Width || y >= Height) {{ return; }}
  for (int g = 0; g < {groups}; ++g) {{
    After[nca_index(g, x, y)] = nca_seed(g, x, y, Width, Height, Seed);
  }}
}}

[numthreads(8, 8, 1)]
void Step(uint3 id : SV_DispatchThreadID) {{
  int x = int(id.x), y = int(id.y);
  if (x >= Width || y >= Height) {{ return; }}
  float4 next[{groups}];
  nca_step(x, y, Width, Height, Taken, Seed, next);
  [unroll] for (int g = 0; g < {groups}; ++g) {{ After[nca_index(g, x, y)] = next[g]; }}
}}
{mask_kernel}
[numthreads(8, 8, 1)]
void Show(uint3 id : SV_DispatchThreadID) {{
  int x = int(id.x), y = int(id.y);
  if (x >= Width || y >= Height) {{ return; }}
  Picture[uint2(x, Height - 1 - y)] = nca_rgba(nca_read(0, x, y));
}}
"""

_MASK = """
[numthreads(8, 8, 1)]
void Mask(uint3 id : SV_DispatchThreadID) {{
  int x = int(id.x), y = int(id.y);
  if (x >= Width || y >= Height) {{ return; }}
  bool alive = nca_alive(x, y, Width, Height);
  for (int g = 0; g < {groups}; ++g) {{
    int i = nca_index(g, x, y);
    if (alive) {{ Masked[i] = After[i]; }} else {{ Masked[i] = nca_erased(g, After[i]); }}
  }}
}}
"""

_SCRIPT = """\
using UnityEngine;

// Grows the cells and shows them on this object's renderer.
public class {class_} : MonoBehaviour
{{
    public ComputeShader shader;
    public int width = {side};
    public int height = {side};{even}
    public int stepsPerFrame = 1;
    public uint seed = 1;

    ComputeBuffer[] cells;
    RenderTexture picture;
    uint taken;

    void OnEnable()
    {{
        cells = new ComputeBuffer[{buffers}];
        for (int i = 0; i < cells.Length; ++i)
            cells[i] = new ComputeBuffer(width * height * {groups}, 16);
        picture = new RenderTexture(width, height, 0, RenderTextureFormat.ARGB32,
                                    RenderTextureReadWrite.Linear);
        picture.enableRandomWrite = true;
        picture.wrapMode = TextureWrapMode.Repeat;
        picture.Create();
        GetComponent<Renderer>().material.mainTexture = picture;
        Restart();
    }}

    void OnDisable()
    {{
        foreach (ComputeBuffer each in cells) each.Release();
        picture.Release();
    }}

    public void Restart()
    {{
        taken = 0;
        Run("Start", cells[1], cells[0], null);
    }}

    void Update()
    {{
        for (int i = 0; i < stepsPerFrame; ++i) Step();
        Run("Show", cells[0], cells[1], null);
    }}

    void Step()
    {{
        Run("Step", cells[0], cells[1], null);
{swap}
        ++taken;
    }}

    void Run(string name, ComputeBuffer before, ComputeBuffer after, ComputeBuffer masked)
    {{
        int kernel = shader.FindKernel(name);
        shader.SetInt("Width", width);
        shader.SetInt("Height", height);
        shader.SetInt("Taken", (int)taken);
        shader.SetInt("Seed", unchecked((int)seed));
        shader.SetBuffer(kernel, "Before", before);
        shader.SetBuffer(kernel, "After", after);
        if (masked != null) shader.SetBuffer(kernel, "Masked", masked);
        shader.SetTexture(kernel, "Picture", picture);
        shader.Dispatch(kernel, (width + 7) / 8, (height + 7) / 8, 1);
    }}
}}
"""

_SWAP = """\
        (cells[0], cells[1]) = (cells[1], cells[0]);"""
_SWAP_MASKED = """\
        Run("Mask", cells[0], cells[1], cells[2]);
        (cells[0], cells[2]) = (cells[2], cells[0]);"""

# A custom render texture holds all channels in bands; see bands.py.
_TEXTURE = """\
Shader "NCA/{name} state"
{{
  Properties {{ _Seed ("Seed", Int) = 1  _Restart ("Restart", Int) = 0 }}
  SubShader
  {{
    Cull Off ZWrite Off ZTest Always Blend Off
    Pass
    {{
      Name "Step"
      HLSLPROGRAM
      #pragma target 4.5
      #include "UnityCustomRenderTexture.cginc"
      #pragma vertex CustomRenderTextureVertexShader
      #pragma fragment Step
      uint _Seed;
      int _Restart;

      int2 nca_size() {{ return int2({side}, {side}); }}
      int2 nca_pixels() {{ return int2({side}, {rows}); }}
      float4 nca_texel(int2 place) {{
        float2 at = (float2(place) + 0.5) / float2(nca_pixels());
        return tex2Dlod(_SelfTexture2D, float4(at, 0.0, 0.0));
      }}
{step}
      float4 Step(v2f_customrendertexture pixel) : SV_Target {{
        int2 place = int2(floor(pixel.globalTexcoord.xy * float2(nca_pixels())));
        return nca_turn(place, _Seed, _Restart == 1, false);
      }}
      ENDHLSL
    }}
  }}
}}
"""

_SHOWN = """\
Shader "NCA/{name} picture"
{{
  Properties {{ _State ("State", 2D) = "black" {{}}  _Cells ("Cells across", Float) = 128 }}
  SubShader
  {{
    Tags {{ "Queue" = "Transparent" "RenderType" = "Transparent" }}
    Blend One OneMinusSrcAlpha
    Pass
    {{
      HLSLPROGRAM
      #pragma target 4.5
      #pragma vertex Corner
      #pragma fragment Pixel
      #include "UnityCG.cginc"
      sampler2D _State;
      float _Cells;

      struct Point {{ float4 place : SV_POSITION; float2 at : TEXCOORD0; }};
      int2 nca_size() {{ return int2({side}, {side}); }}
{colours}
      Point Corner(appdata_base corner) {{
        Point made;
        made.place = UnityObjectToClipPos(corner.vertex);
        made.at = corner.texcoord.xy;
        return made;
      }}

      float4 Pixel(Point pixel) : SV_Target {{
        float2 place = float2(pixel.at.x, 1.0 - pixel.at.y) * _Cells;
        int2 cell = nca_wrapped(nca_cell(place), nca_size());
        if (cell.x < 0) {{ return float4(0.0, 0.0, 0.0, 0.0); }}
        float2 at = (float2(cell) + 0.5) / float2({side}, {rows});
        return nca_rgba(tex2Dlod(_State, float4(at, 0.0, 0.0)));
      }}
      ENDHLSL
    }}
  }}
}}
"""

_TEXTURE_SCRIPT = """\
using UnityEngine;
using UnityEngine.Rendering;

// Grows the cells in a custom render texture and shows them on this object's renderer.
public class {class_}Texture : MonoBehaviour
{{
    public Shader state;    // "NCA/{name} state"
    public Shader picture;  // "NCA/{name} picture"
    public int stepsPerFrame = 1;

    CustomRenderTexture cells;
    Material step;
    bool fresh;

    void OnEnable()
    {{
        step = new Material(state);
        cells = new CustomRenderTexture({side}, {rows}, RenderTextureFormat.ARGBFloat,
                                        RenderTextureReadWrite.Linear);
        cells.doubleBuffered = true;
        cells.filterMode = FilterMode.Point;
        cells.wrapMode = TextureWrapMode.Clamp;
        cells.material = step;
        cells.initializationMode = CustomRenderTextureUpdateMode.OnDemand;
        cells.updateMode = CustomRenderTextureUpdateMode.OnDemand;
        cells.Create();
        Material shown = new Material(picture);
        shown.SetTexture("_State", cells);
        GetComponent<Renderer>().material = shown;
        Restart();
    }}

    void OnDisable() {{ cells.Release(); }}

    public void Restart() {{ fresh = true; }}

    void Update()
    {{
        step.SetInt("_Restart", fresh ? 1 : 0);
        cells.Update({turns}fresh ? 1 : stepsPerFrame{end});
        fresh = false;
    }}
}}
"""

_README = """\
{name} in Unity

{class_}.compute and {class_}.cs: put both into Assets, add the script to an object with a renderer
(a quad) and drag {class_}.compute onto its field Shader.

The same in a custom render texture, where compute shaders cannot run: {class_}State.shader,
{class_}Picture.shader and {class_}Texture.cs; add the script to an object with a renderer and drag
the shaders onto its fields State and Picture.
"""


class UnityExporter(Exporter):
    """A folder of shaders and scripts to put into Assets."""

    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True, channels=32, numbers=16_384)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write shaders, scripts and a README."""
        (model,) = models
        automaton, head = model.automaton, title(model)
        groups, living = groups_of(automaton), automaton.living
        words = identifier(model.name).split("_")
        known = {
            "name": model.name,
            "class_": "Nca" + "".join(word[:1].upper() + word[1:] for word in words),
            "side": _SIDE,
            "rows": rows_of(automaton, _SIDE),
            "groups": groups,
            # Two turns are a step where cells live; see bands.py.
            "turns": "2 * (" if living else "",
            "end": ")" if living else "",
        }
        class_ = known["class_"]
        found = {
            f"{class_}.compute": head + compute_source(model),
            f"{class_}.cs": head
            + _SCRIPT.format(
                buffers=3 if living else 2,
                swap=_SWAP_MASKED if living else _SWAP,
                even="  // even" if automaton.grid.layout == "hex" else "",
                **known,
            ),
        }
        shown = [cell_source(model), wrap_source(model)]
        colours = [colours_source(model, HLSL), *(in_dialect(each, HLSL) for each in shown)]
        step = turn_source(model, HLSL)
        found |= {
            f"{class_}State.shader": head + _TEXTURE.format(step=step, **known),
            f"{class_}Picture.shader": head + _SHOWN.format(colours="\n".join(colours), **known),
            f"{class_}Texture.cs": head + _TEXTURE_SCRIPT.format(**known),
            "README.txt": _README.format(**known),
        }
        return {name: text.encode() for name, text in found.items()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Point to the README."""
        return ["README.txt says what goes where; this was not run in Unity's editor"]


def compute_source(model: Trained) -> str:
    """Write the compute shader."""
    living, groups = model.automaton.living, groups_of(model.automaton)
    start = "float4 nca_read_after(int group, int x, int y)"
    after = start + " { return After[nca_index(group, x, y)]; }"
    return _COMPUTE.format(
        groups=groups,
        mask_pragma="#pragma kernel Mask\n" * living,
        mask_buffer="RWStructuredBuffer<float4> Masked;\n" * living,
        mask_kernel=_MASK.format(groups=groups) * living,
        after=f"{after}\n" * living,
        step=step_source(model, HLSL),
        colours=colours_source(model, HLSL),
    )
