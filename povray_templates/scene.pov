// One image of 3DShapesHD, by hand:
//   povray scene.pov +W256 +H256 +A0.3 +AM1 +R3 -J Declare=Floor_Hue=0.6 Declare=Shape=2
#version 3.7;
global_settings { assumed_gamma 1.0 }
#include "constants.inc"
#include "materials.inc"
#include "camera.inc"
#include "light.inc"
#include "room.inc"
#include "objects.inc"

#ifndef (Floor_Hue) #declare Floor_Hue = 0; #end            // turns, [0, 1)
#ifndef (Wall_Hue) #declare Wall_Hue = 0.6; #end            // turns, [0, 1)
#ifndef (Object_Hue) #declare Object_Hue = 0.3; #end        // turns, [0, 1)
#ifndef (Scale) #declare Scale = 1.5; #end    // [1, 2]
#ifndef (Shape) #declare Shape = 0; #end                    // cube, cylinder, sphere, capsule
#ifndef (Orientation) #declare Orientation = 20; #end       // degrees, [-30, 30]

camera { Orbit_Camera rotate -Orientation * y }
object { Floor Hue_Pigment(Floor_Hue) }
object { Walls Hue_Pigment(Wall_Hue) }
object { Shapes[Shape] scale Scale Hue_Pigment(Object_Hue) }
